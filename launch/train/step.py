"""The compiled training step: K steps in one call of the device."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from launch.mesh import batch_sharded, on_cpu, replicated
from launch.task import Loss, PyTree
from launch.train.state import TrainState

TrainSteps = Callable[
  [TrainState, PyTree, PyTree, jax.Array],
  tuple[TrainState, dict[str, jax.Array]],
]


def make_train_steps(
  loss: Loss,
  optimizer: optax.GradientTransformationExtraArgs,
  schedule: optax.Schedule,
  select: Callable[[PyTree, PyTree], PyTree],
  mesh: Mesh,
  *,
  max_skipped: int = 0,
  looped: bool | None = None,
) -> TrainSteps:
  """Returns the jitted `train_steps(state, data, block, key)`.

  It takes as many steps as `block` is long and donates the old state. Step s
  gets the key `fold_in(key, s)`, so a resumed run draws what it would have
  drawn.

  A step whose loss or gradient is not finite changes nothing but the counts.
  After more than `max_skipped` such steps in a row none changes anything: the
  state stays as it was, until the host has read of it and stops.

  Args:
    loss: the task's loss of one batch.
    optimizer: what turns gradients into updates; takes `applied`, see
      `launch.train.optimizer.make_optimizer`.
    schedule: the learning rate by step, for the metrics.
    select: the batch of one step from `(data, item of the block)`.
    mesh: the devices; the state lies on each, batches are split over 'data'.
    max_skipped: see above.
    looped: whether the steps are one program with a loop, or one call each.
      None: a loop, but not on a CPU.

  Returns:
    A function that returns the new state and the metrics of each step, `[K]`:
    loss, the task's own, learning_rate, and as `bad` which of `values_of`
    was the first that was not finite, -1 if all were.

  Raises:
    ValueError: (when compiled) a metric of the task has a taken name.
  """
  gradient = jax.value_and_grad(loss, has_aux=True)
  update = make_update(optimizer, schedule, max_skipped=max_skipped)

  def train_step(state, data, item, key):
    batch = jax.lax.with_sharding_constraint(
      select(data, item), batch_sharded(mesh)
    )
    if data:
      # They cost nothing: what no loss reads is no argument of the program.
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

  def in_one_call(state, data, block, key):
    return jax.lax.scan(
      lambda state, item: train_step(state, data, item, key), state, block
    )

  placed = functools.partial(
    jax.jit,
    donate_argnums=0,
    out_shardings=replicated(mesh),
    compiler_options=cpu_options() if on_cpu(mesh) else None,
  )
  if looped is None:
    looped = not on_cpu(mesh)
  return placed(in_one_call) if looped else _one_by_one(placed(train_step))


def make_update(
  optimizer: optax.GradientTransformationExtraArgs,
  schedule: optax.Schedule,
  *,
  max_skipped: int,
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
  """Returns what a step does with a gradient, to be compiled with it.

  `update(state, (loss, (model_state, metrics)), gradients)` gives the next
  state and the metrics of the step. For the arguments see `make_train_steps`.
  """

  def update(state, values, grads):
    value, (model_state, metrics) = values
    taken = {'loss', 'learning_rate', 'bad'} & metrics.keys()
    if taken:
      raise ValueError(f'the metrics of the loss may not be called {taken}')
    good = _finite([value, *jax.tree.leaves(grads)])
    # As all gradients decide, no parameter is overwritten while a gradient of
    # an earlier layer is still to be computed from it.
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
    rate = jnp.asarray(schedule(state.step), jnp.float32)
    bad = jnp.where(good.all(), -1, jnp.argmin(good))
    return new_state, {
      'loss': value,
      **metrics,
      'learning_rate': rate,
      'bad': bad,
    }

  return update


def values_of(params: PyTree) -> list[str]:
  """Names what a step checks: the loss and the gradient of each parameter."""
  flat, _ = jax.tree_util.tree_flatten_with_path(params)
  names = [jax.tree_util.keystr(p, simple=True, separator='/') for p, _ in flat]
  return ['the loss', *(f'the gradient of {name}' for name in names)]


def _finite(arrays: list[jax.Array]) -> jax.Array:
  """Whether each array is finite: bool `[len(arrays)]`.

  A sum is not finite if an element is not, and is what costs least. That of
  finite elements overflows only where a step could not be taken either.
  """
  return jnp.isfinite(jnp.stack([_sum(array) for array in arrays]))


def _sum(array: jax.Array) -> jax.Array:
  """The sum in float32.

  Rows of a matrix are summed by a product with ones: XLA's own sum of the text
  head's gradients takes 2 ms of a step on a CPU, the product 1, as long as it
  takes to read them. Kernels of convolutions are summed by XLA while it writes
  them, for nothing; a product, which wants them written first, is 2.8 % of a
  step of PreAct-ResNet18.
  """
  if array.ndim == 2:
    ones = jnp.ones(array.shape[1], array.dtype)
    array = jnp.matmul(array, ones, preferred_element_type=jnp.float32)
  return jnp.sum(array, dtype=jnp.float32)


@functools.cache
def cpu_options() -> dict[str, str]:
  """Options of XLA's compiler for a training step on a CPU.

  Convolutions are left to Eigen. YNNPACK, to which XLA gives them by default,
  takes 2 to 3 times as long for the gradient of a kernel at 32x32 and 16x16
  pixels, and does some shapes in one thread: a step of PreAct-ResNet18 takes
  0.55 of the time without. It keeps reductions and matrix products, where it is
  the faster.
  """
  kept = ('LIBRARY_FUSION_TYPE_REDUCE', 'LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT')
  options = {'xla_cpu_experimental_ynn_fusion_type': ','.join(kept)}
  try:
    jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
  except jax.errors.JaxRuntimeError:  # another version of XLA
    return {}
  return options


def _one_by_one(train_step: TrainSteps) -> TrainSteps:
  """Takes the steps of a block in calls of their own.

  XLA's CPU convolutions are 4 to 20 times slower inside a loop (jax#12868, open
  since 2022), and a CPU has no dispatch to save.
  """

  @jax.jit
  def unstack(block):
    count = len(jax.tree.leaves(block)[0])
    return [jax.tree.map(lambda x, i=i: x[i], block) for i in range(count)]

  @jax.jit
  def stack(rows):
    return jax.tree.map(lambda *values: jnp.stack(values), *rows)

  def train_steps(state, data, block, key):
    rows = []
    for item in unstack(block):
      state, metrics = train_step(state, data, item, key)
      rows.append(metrics)
    return state, stack(rows)

  return train_steps
