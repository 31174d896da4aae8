"""The optimizer and its learning rate, from `config.optimizer`."""

import jax
import jax.numpy as jnp
import optax

from launch.config import Config
from launch.task import PyTree
from launch.train.schedule import StepSchedule


def make_schedule(config: Config, plan: StepSchedule) -> optax.Schedule:
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
) -> optax.GradientTransformationExtraArgs:
  """Returns the optimizer, with the update rules of torch.

  The weight decay is added to the gradient of every parameter, biases and norm
  scales too, before momentum or Adam's moments see it, as in torch.optim.SGD
  and torch.optim.Adam (it is not AdamW).

  `update` takes `applied` as well, a bool scalar: where it is False, the
  moments and Adam's count stay as they are. Only the count of the schedule goes
  on; the updates are not to be used.

  Args:
    config: `config.optimizer`.
    schedule: the learning rate by step.
  """
  if config.name == 'sgd':
    moments = _momentum(config.momentum, config.nesterov)
  else:
    moments = _adam_moments(config.b1, config.b2)
  return optax.chain(
    optax.add_decayed_weights(config.weight_decay),
    moments,
    optax.scale_by_learning_rate(schedule),
  )


# optax has both rules. But chosen between new and old outside of them, the
# moments would be computed twice, for themselves and for the update; XLA then
# copies the old ones first, which are overwritten in between: on a CPU the step
# of the text head took 1.7 times as long.


def _momentum(
  decay: float, nesterov: bool
) -> optax.GradientTransformationExtraArgs:
  if not decay:
    return optax.with_extra_args_support(optax.identity())

  def init(params: PyTree) -> optax.TraceState:
    return optax.TraceState(jax.tree.map(jnp.zeros_like, params))

  def update(updates, state, params=None, **extra):
    del params
    trace = jax.tree.map(
      lambda g, t: jnp.where(extra['applied'], g + decay * t, t),
      updates,
      state.trace,
    )
    if nesterov:
      updates = jax.tree.map(lambda g, t: g + decay * t, updates, trace)
    else:
      updates = trace
    return updates, optax.TraceState(trace)

  return optax.GradientTransformationExtraArgs(init, update)


def _adam_moments(
  b1: float, b2: float, eps: float = 1e-8
) -> optax.GradientTransformationExtraArgs:
  def init(params: PyTree) -> optax.ScaleByAdamState:
    zeros = jax.tree.map(jnp.zeros_like, params)
    return optax.ScaleByAdamState(
      jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.copy, zeros)
    )

  def update(updates, state, params=None, **extra):
    del params
    applied = extra['applied']

    def average(decay, values, old):
      return jax.tree.map(
        lambda x, m: jnp.where(applied, (1 - decay) * x + decay * m, m),
        values,
        old,
      )

    count = state.count + applied
    mu = average(b1, updates, state.mu)
    nu = average(b2, jax.tree.map(jnp.square, updates), state.nu)
    rest1, rest2 = 1 - b1**count, 1 - b2**count
    updates = jax.tree.map(
      lambda m, v: (m / rest1) / (jnp.sqrt(v / rest2) + eps), mu, nu
    )
    return updates, optax.ScaleByAdamState(count, mu, nu)

  return optax.GradientTransformationExtraArgs(init, update)
