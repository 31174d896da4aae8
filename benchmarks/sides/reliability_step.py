"""Training steps of `reliability_cost`: with and without the finite check."""

import contextlib
import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.sides import retrieval_ours, step_ours, workload
from benchmarks.sides.retrieval_data import features
from benchmarks.sides.workload import Workload
from launch.mesh import replicated
from launch.task import PyTree
from launch.train import assemble, step
from launch.train.feeds import Feed
from launch.train.state import TrainState

MODE = 'float32, RandomMix'
# PLAIN and AGAIN are the same program; their difference is noise.
CHECKED, FIRSTS = 'with the check', 'checks first elements only'
PLAIN, AGAIN = 'without a check', 'without a check, again'
ALONE = 'the check alone'


def make_optimizer(config: Any, learning_rate: optax.Schedule) -> Any:
  """The rules of `launch.train.optimizer` as optax has them.

  They apply every update.

  Args:
    config: `config.optimizer`.
    learning_rate: the learning rate by step.
  """
  if config.name == 'sgd':
    rule = optax.sgd(
      learning_rate,
      momentum=config.momentum or None,
      nesterov=config.nesterov,
    )
  else:
    rule = optax.adam(learning_rate, b1=config.b1, b2=config.b2)
  rule = optax.chain(optax.add_decayed_weights(config.weight_decay), rule)

  def update(updates, state, params=None):
    return rule.update(_all_at_once(updates), state, params)

  return optax.GradientTransformation(rule.init, update)


def _all_at_once(grads: PyTree) -> PyTree:
  """Makes every update depend on all gradients.

  Otherwise XLA would copy the parameters that later gradients still need, and
  the step without a check would look slower than it is.
  """
  firsts = [
    jnp.asarray(g[(0,) * g.ndim], jnp.float32) for g in jax.tree.leaves(grads)
  ]
  zero = jnp.nan_to_num(0 * sum(firsts))
  return jax.tree.map(lambda g: g + zero.astype(g.dtype), grads)


def make_train_steps(
  loss: Any,
  optimizer: Any,
  learning_rate: optax.Schedule,
  feed: Feed,
  mesh: jax.sharding.Mesh,
  *,
  max_skipped: int = 0,
  looped: bool | None = None,
) -> step.TrainSteps:
  """`launch.train.step.make_train_steps` without check and without select."""
  del max_skipped
  gradient = jax.value_and_grad(loss, has_aux=True)

  def train_step(state, data, item, key):
    (value, (model_state, metrics)), grads = gradient(
      state.params,
      state.model_state,
      feed.select(data, item),
      jax.random.fold_in(key, state.step),
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    new_state = TrainState(
      step=state.step + 1,
      skipped=state.skipped,
      params=optax.apply_updates(state.params, updates),
      opt_state=opt_state,
      model_state=model_state,
    )
    rate = jnp.asarray(learning_rate(state.step), jnp.float32)
    return new_state, {'loss': value, **metrics, 'learning_rate': rate}

  def scan_steps(state, data, chunk, key):
    return jax.lax.scan(
      lambda state, item: train_step(state, data, item, key), state, chunk
    )

  on_cpu = mesh.devices.flat[0].platform == 'cpu'
  jit = functools.partial(
    jax.jit,
    donate_argnums=0,
    out_shardings=replicated(mesh),
    compiler_options=step.cpu_options() if on_cpu else None,
  )
  if looped is None:
    looped = not on_cpu
  return jit(scan_steps) if looped else step._step_by_step(jit(train_step))


def _first_elements(arrays: list[jax.Array]) -> jax.Array:
  """Replaces `launch.train.step._finite`; reads only the first elements."""
  firsts = [jnp.asarray(x[(0,) * x.ndim], jnp.float32) for x in arrays]
  return jnp.isfinite(jnp.stack(firsts))


def _sides() -> dict[str, list[tuple[Any, str, Any]]]:
  """Returns, by side, what to patch while the side is made."""
  made = []

  def make_once(*args: Any, **options: Any) -> step.TrainSteps:
    if not made:
      made.append(make_train_steps(*args, **options))
    return made[0]

  plain = [
    (assemble, 'make_optimizer', make_optimizer),
    (assemble, 'make_train_steps', make_once),
  ]
  firsts = [(step, '_finite', _first_elements)]
  return {CHECKED: [], FIRSTS: firsts, PLAIN: plain, AGAIN: plain}


def make_head(
  *, images: int, batch_size: int, steps: int
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
  """Makes a call for each side, with the text head of configs/coco_m3l.py.

  Args:
    images: size of the random training set.
    batch_size: texts per step.
    steps: steps per call.
  """
  arrays = features(images)

  def start():
    run = retrieval_ours.start(arrays, batch_size, steps)
    call = retrieval_ours.make_call(run)
    shapes = [x.shape for x in jax.tree.leaves(run.state.params)]
    return (lambda: call()[1]), shapes

  return _make_calls(start, steps)


def make_net(
  **fields: Any,
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
  """Makes a call for each side, with a network and its images.

  Args:
    **fields: fields of the `Workload`, with one dispatch per call.
  """
  work = Workload(**fields)
  shapes = step_ours.weight_shapes(work)
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'weights.npz'
    workload.write_weights(path, shapes)
    work = dataclasses.replace(work, weights=str(path))

    def start():
      calls, _ = step_ours.make(modes=[MODE], **dataclasses.asdict(work))
      return (lambda: calls[MODE]()[-1]), list(shapes.values())

    return _make_calls(start, work.steps)


def _make_calls(
  start: Callable[[], tuple[Callable[[], Any], list[tuple[int, ...]]]],
  steps: int,
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
  """Makes the calls of all sides, and of the check alone.

  Args:
    start: returns a call that returns metrics, and the shapes of the gradients.
    steps: steps per call, and checks per call of the check alone.

  Returns:
    The calls by side, and facts: the losses of the first two calls of each
      side.
  """
  calls, losses, shapes = {}, {}, []
  for name, places in _sides().items():
    with contextlib.ExitStack() as patched:
      for module, attribute, mine in places:
        patched.enter_context(mock.patch.object(module, attribute, mine))
      call, shapes = start()
      losses[name] = [float(call()['loss'][-1]) for _ in range(2)]
    calls[name] = call
  options = step.cpu_options() if jax.default_backend() == 'cpu' else None
  check = jax.jit(step._finite, compiler_options=options)
  arrays = [jnp.ones(shape) for shape in [(), *shapes]]

  def check_alone():
    for _ in range(steps):
      jax.block_until_ready(check(arrays))

  calls[ALONE] = check_alone
  return calls, {'losses': losses}


def compare(facts: dict[str, dict[str, Any]]) -> None:
  """Raises ValueError if the sides do not take the same steps."""
  for losses in (side['losses'] for side in facts.values()):
    for name, values in losses.items():
      if not np.allclose(values, losses[PLAIN], rtol=1e-3):
        raise ValueError(
          f'the steps {name!r} and {PLAIN!r} have different losses: {losses}'
        )
