"""The optimizer and its learning rate, from `config.optimizer`."""

import jax
import jax.numpy as jnp
import optax

from launch.config import Config
from launch.plan import Plan
from launch.task import PyTree


def make_schedule(config: Config, plan: Plan) -> optax.Schedule:
  """Returns the learning rate as a function of the steps done.

  'cosine' falls from `lr` to 0 over the run, without restarts; 'constant' stays
  at `lr`. With `warmup_epochs` the rate first climbs in equal steps to `lr`,
  and the cosine takes the rest of the run.

  Args:
    config: `config.optimizer`.
    plan: gives the steps of the run and of the warm-up.
  """
  warmup = plan.steps(config.warmup_epochs)
  after = max(1, plan.total_steps - warmup)
  if config.schedule == 'cosine':
    schedule = optax.cosine_decay_schedule(config.lr, after)
  else:
    schedule = optax.constant_schedule(config.lr)
  if not warmup:
    return schedule
  # From lr / warmup rather than 0: no step is spent at rate 0.
  climb = optax.linear_schedule(config.lr / warmup, config.lr, warmup - 1)
  return optax.join_schedules([climb, schedule], [warmup])


def make_optimizer(
  config: Config, schedule: optax.Schedule
) -> optax.GradientTransformation:
  """Returns the optimizer, with the update rules of torch.

  The weight decay is added to the gradient of every parameter, biases and norm
  scales too, before momentum or Adam's moments see it, as in torch.optim.SGD
  and torch.optim.Adam (it is not AdamW).

  Args:
    config: `config.optimizer`.
    schedule: the learning rate by step.
  """
  if config.name == 'sgd':
    rule = optax.sgd(
      schedule, momentum=config.momentum or None, nesterov=config.nesterov
    )
  else:
    rule = optax.adam(schedule, b1=config.b1, b2=config.b2)
  rule = optax.chain(optax.add_decayed_weights(config.weight_decay), rule)

  def update(updates, state, params=None):
    return rule.update(_all_at_once(updates), state, params)

  return optax.GradientTransformation(rule.init, update)


def _all_at_once(grads: PyTree) -> PyTree:
  """Lets no parameter be updated before all gradients are there.

  The gradient of one layer is computed from the parameters of the next. If
  those could be updated by then, XLA would copy them first, as the update
  overwrites them (it drops an `optimization_barrier` before it decides). For
  the text head on two cores that was a quarter of the step: the copies, and
  temporaries too large for malloc to keep from one step to the next.
  """
  firsts = [
    jnp.asarray(g[(0,) * g.ndim], jnp.float32) for g in jax.tree.leaves(grads)
  ]
  zero = jnp.nan_to_num(0 * sum(firsts))
  return jax.tree.map(lambda g: g + zero.astype(g.dtype), grads)
