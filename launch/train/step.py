"""Training step: K compiled steps in one dispatch."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from launch.mesh import batch_sharded, on_cpu, replicated
from launch.task import Loss, PyTree
from launch.train.feeds import Feed
from launch.train.state import TrainState

TrainSteps = Callable[
  [TrainState, PyTree, PyTree, jax.Array],
  tuple[TrainState, dict[str, jax.Array]],
]


def make_train_steps(
  loss: Loss,
  optimizer: optax.GradientTransformationExtraArgs,
  learning_rate: optax.Schedule,
  feed: Feed,
  mesh: Mesh,
  *,
  max_skipped: int = 0,
  looped: bool | None = None,
) -> TrainSteps:
  """Returns `train_steps(state, feed.data, chunk, key)`, jitted.

  It takes one step for each batch of `chunk` and donates the old state. Step s
  gets the key `fold_in(key, s)`, so a resumed run draws the same random
  numbers.

  A step whose loss or gradient is not finite is skipped: it changes nothing but
  the counts. After more than `max_skipped` skipped steps in a row all later
  ones are skipped too, until the host has read the metrics and stops.

  Args:
    loss: the task's loss of one batch.
    optimizer: makes updates of gradients; its `update` takes `applied`, see
      `launch.train.optimizer.make_optimizer`.
    learning_rate: the learning rate by step, for the metrics.
    feed: the batches.
    mesh: the devices; the state is replicated, batches are split over 'data'.
    max_skipped: number of steps in a row that may be skipped.
    looped: True: a chunk is one program with a loop. False: one dispatch for
      each step. None: a loop, except on a CPU.

  Returns:
    A function that returns the new state and the metrics of each step, `[K]`:
    'loss', those of the task, 'learning_rate', and 'bad', the index in
    `checked_values` of the first value that was not finite, -1 if all were.

  Raises:
    ValueError: (when compiled) a metric of the task has a reserved name.
  """
  gradient = jax.value_and_grad(loss, has_aux=True)
  update = make_update(optimizer, learning_rate, max_skipped=max_skipped)

  def train_step(state, data, item, key):
    batch = jax.lax.with_sharding_constraint(
      feed.select(data, item), batch_sharded(mesh)
    )
    if data:
      # This is free: arrays that the loss does not read are pruned.
      batch = {**batch, 'resident': data}
    return update(
      state,
      *gradient(
        state.params,
        state.model_state,
        batch,
        jax.random.fold_in(key, state.step),
      ),
    )

  def scan_steps(state, data, chunk, key):
    return jax.lax.scan(
      lambda state, item: train_step(state, data, item, key), state, chunk
    )

  jit = functools.partial(
    jax.jit,
    donate_argnums=0,
    out_shardings=replicated(mesh),
    compiler_options=cpu_options() if on_cpu(mesh) else None,
  )
  if looped is None:
    looped = not on_cpu(mesh)
  return jit(scan_steps) if looped else _step_by_step(jit(train_step))


def make_update(
  optimizer: optax.GradientTransformationExtraArgs,
  learning_rate: optax.Schedule,
  *,
  max_skipped: int,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
  """Returns `update(state, (loss, (model_state, metrics)), gradients)`.

  It returns the next state and the metrics of the step, and is compiled
  together with the gradient. For the arguments see `make_train_steps`.
  """

  def update(state, values, grads):
    value, (model_state, metrics) = values
    reserved = {'loss', 'learning_rate', 'bad'} & metrics.keys()
    if reserved:
      raise ValueError(
        f'the loss of config.task returns metrics named {sorted(reserved)}; '
        'these names are reserved for the trainer: rename them'
      )
    good = _finite([value, *jax.tree.leaves(grads)])
    # `applied` depends on all gradients, so no parameter is overwritten while
    # the gradient of an earlier layer still has to be computed from it.
    applied = good.all() & (state.skipped <= max_skipped)

    def choose(new, old):
      return jax.tree.map(lambda x, y: jnp.where(applied, x, y), new, old)

    updates, opt_state = optimizer.update(
      grads, state.opt_state, state.params, applied=applied
    )
    params = optax.apply_updates(state.params, updates)
    new_state = TrainState(
      step=state.step + 1,
      skipped=jnp.where(applied, 0, state.skipped + 1),
      params=choose(params, state.params),
      opt_state=opt_state,
      model_state=choose(model_state, state.model_state),
    )
    rate = jnp.asarray(learning_rate(state.step), jnp.float32)
    bad = jnp.where(good.all(), -1, jnp.argmin(good))
    return new_state, {
      'loss': value,
      **metrics,
      'learning_rate': rate,
      'bad': bad,
    }

  return update


def checked_values(params: PyTree) -> list[str]:
  """Returns the names of the values that a step checks for being finite."""
  flat, _ = jax.tree_util.tree_flatten_with_path(params)
  names = [jax.tree_util.keystr(p, simple=True, separator='/') for p, _ in flat]
  return ['the loss', *(f'the gradient of {name}' for name in names)]


def _finite(arrays: list[jax.Array]) -> jax.Array:
  """Returns whether each array is finite: bool `[len(arrays)]`.

  A sum is not finite if an element is not, and is the cheapest check. The sum
  of finite elements overflows only where a step would overflow too.
  """
  return jnp.isfinite(jnp.stack([_sum(array) for array in arrays]))


def _sum(array: jax.Array) -> jax.Array:
  """Returns the sum in float32.

  Rows of a matrix are summed by a product with ones. On a CPU, XLA's own sum of
  the text head's gradients takes 2 ms of a step and the product takes 1 ms,
  which is the time to read them. Kernels of convolutions are summed by XLA
  while it writes them, at no cost; a product needs them written first and takes
  2.8 % of a step of PreAct-ResNet18.
  """
  if array.ndim == 2:
    ones = jnp.ones(array.shape[1], array.dtype)
    array = jnp.matmul(array, ones, preferred_element_type=jnp.float32)
  return jnp.sum(array, dtype=jnp.float32)


@functools.cache
def cpu_options() -> dict[str, str]:
  """Returns options of XLA's compiler for a training step on a CPU.

  Convolutions are computed by Eigen. XLA's default for them is YNNPACK, which
  takes 2 to 3 times as long for the gradient of a kernel at 32x32 and 16x16
  pixels and uses one thread for some shapes: without it, a step of
  PreAct-ResNet18 takes 0.55 of the time. Reductions and matrix products stay
  with YNNPACK, which is faster there.
  """
  kept = ('LIBRARY_FUSION_TYPE_REDUCE', 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT')
  options = {'xla_cpu_experimental_ynn_fusion_type': ','.join(kept)}
  try:
    jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
  except jax.errors.JaxRuntimeError:  # another version of XLA
    return {}
  return options


def _step_by_step(train_step: TrainSteps) -> TrainSteps:
  """Returns `train_steps` with a dispatch for each step of a chunk.

  XLA's CPU convolutions are 4 to 20 times slower inside a loop (jax#12868, open
  since 2022), and on a CPU there is no dispatch time to save.
  """
  unstack, stack = jax.jit(unstack_chunk), jax.jit(stack_metrics)

  def train_steps(state, data, chunk, key):
    metrics = []
    for item in unstack(chunk):
      state, step_metrics = train_step(state, data, item, key)
      metrics.append(step_metrics)
    return state, stack(metrics)

  return train_steps


def unstack_chunk(chunk: PyTree) -> list[PyTree]:
  """Returns the items of a chunk `[K, ...]`, one for each step."""
  count = len(jax.tree.leaves(chunk)[0])
  return [jax.tree.map(lambda x, i=i: x[i], chunk) for i in range(count)]


def stack_metrics(metrics: list[PyTree]) -> PyTree:
  """Returns the metrics of K steps, stacked: `[K]` each."""
  return jax.tree.map(lambda *values: jnp.stack(values), *metrics)
