"""What training changes: the state that a checkpoint holds."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from launch.config import Config
from launch.mesh import device_put_global, replicated
from launch.task import PyTree, Task


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """The state of a run after `step` steps.

  Attributes:
    step: int32 scalar, the number of steps done.
    skipped: int32 scalar, how many of the last steps in a row were left out, as
      a loss or a gradient was not finite.
    params: what the optimizer changes.
    opt_state: the optimizer's own state.
    model_state: what the loss carries on, such as running means.
  """

  step: jax.Array
  skipped: jax.Array
  params: PyTree
  opt_state: PyTree
  model_state: PyTree


def make_keys(seed: int, mesh: Mesh) -> tuple[jax.Array, jax.Array]:
  """Returns the keys `(init, train)` of a seed, on every device.

  They are split, because with a shared key a task's `split(key)[i]` at the
  initialisation would be the very key of step i.
  """

  def split(seed):
    init_key, train_key = jax.random.split(jax.random.key(seed))
    return init_key, train_key

  return jax.jit(split, out_shardings=replicated(mesh))(seed)


def make_init(
  task: Task, config: Config, optimizer: optax.GradientTransformation
) -> Callable[[jax.Array], TrainState]:
  """Returns `init(key)`, jitted: the state before step 1."""

  def init(key):
    params, model_state = task.init(config, key)
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      skipped=jnp.zeros((), jnp.int32),
      params=params,
      opt_state=optimizer.init(params),
      model_state=model_state,
    )

  return jax.jit(init)


def initial_state(
  init: Callable[[jax.Array], TrainState], key: jax.Array, mesh: Mesh
) -> TrainState:
  """Returns `init(key)` on every device.

  One device computes it: the same program for several may round otherwise.
  """
  here = jax.random.key_data(key).addressable_data(0)
  state = jax.device_get(init(jax.random.wrap_key_data(here)))
  return device_put_global(state, replicated(mesh))


def make_snapshot(mesh: Mesh) -> Callable[[TrainState], TrainState]:
  """Returns `snapshot(state)`, jitted: a copy on the devices.

  The state itself can be donated to the next steps at once, while the copy
  waits to be saved.
  """

  def snapshot(state):
    return jax.tree.map(jnp.copy, state)

  return jax.jit(snapshot, out_shardings=replicated(mesh))


def abstract_state(
  init: Callable[[jax.Array], TrainState], key: jax.Array, mesh: Mesh
) -> TrainState:
  """Returns what `init(key)` would look like: shapes, dtypes and shardings."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)),
    jax.eval_shape(init, key),
  )
