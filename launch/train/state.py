"""Train state, its initialization, its keys and its copies."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from launch.config import Config
from launch.mesh import can_run, device_put_global, replicated
from launch.task import PyTree, Task


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """The state of a run after `step` steps.

  Attributes:
    step: int32 scalar, the number of steps done.
    skipped: int32 scalar, the number of consecutive steps skipped up to now,
      because a loss or a gradient was not finite.
    params: the parameters that the optimizer updates.
    opt_state: the state of the optimizer.
    model_state: other state of the model, such as running means.
  """

  step: jax.Array
  skipped: jax.Array
  params: PyTree
  opt_state: PyTree
  model_state: PyTree


def make_keys(seed: int, mesh: Mesh) -> tuple[jax.Array, jax.Array]:
  """Returns the keys `(init, train)` of a seed, on every device.

  They differ, because with one key for both a task's `split(key)[i]` in `init`
  would be the key of step i. For a mesh that programs are only compiled for,
  they are shapes.
  """

  def split(seed):
    init_key, train_key = jax.random.split(jax.random.key(seed))
    return init_key, train_key

  if not can_run(mesh):
    shapes = jax.eval_shape(split, seed)
    return jax.tree.map(lambda x: x.update(sharding=replicated(mesh)), shapes)
  return jax.jit(split, out_shardings=replicated(mesh))(seed)


def make_init(
  task: Task, config: Config, optimizer: optax.GradientTransformation
) -> Callable[[jax.Array], TrainState]:
  """Returns `init(key)`, jitted: it returns the state at step 0."""

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

  One device computes it: compiled for several, the same program may round
  differently.
  """
  here = jax.random.key_data(key).addressable_data(0)
  state = jax.device_get(init(jax.random.wrap_key_data(here)))
  return device_put_global(state, replicated(mesh))


def make_snapshot(mesh: Mesh) -> Callable[[TrainState], TrainState]:
  """Returns `snapshot(state)`, jitted: it returns a copy on the devices.

  The state itself can be donated to the next steps at once, while the copy
  waits to be saved.
  """

  def snapshot(state):
    return jax.tree.map(jnp.copy, state)

  return jax.jit(snapshot, out_shardings=replicated(mesh))


def abstract_state(
  init: Callable[[jax.Array], TrainState], key: jax.Array, mesh: Mesh
) -> TrainState:
  """Returns the shapes, dtypes and shardings of `init(key)`."""
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)),
    jax.eval_shape(init, key),
  )
