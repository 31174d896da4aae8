"""Assembly of training: from a config and a task to the compiled step.

The trainer, the benchmarks and the tests all build their steps here:

  feed = build_feed(config, task.train_data(config), mesh)
  training = assemble(task, config, feed, mesh)
  state = training.initial_state()
  for chunk in feed.chunks(0):
    state, metrics = training.train_steps(state, feed.data, chunk, training.key)
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from launch.config import Config
from launch.task import RandomAccess, Task
from launch.train.feeds import Feed, count_examples, make_feed
from launch.train.invariant_step import make_invariant_steps
from launch.train.optimizer import make_optimizer, make_schedule
from launch.train.schedule import StepSchedule
from launch.train.state import (
  TrainState,
  abstract_state,
  initial_state,
  make_init,
  make_keys,
)
from launch.train.step import TrainSteps, make_train_steps


class Training(NamedTuple):
  """The parts that train a task; made by `assemble`.

  Attributes:
    mesh: the devices.
    feed: the batches.
    init: `init(key)`, jitted; returns the state at step 0.
    init_key: the key of `init`.
    train_steps: the compiled steps of a chunk.
    key: the key of `train_steps`.
  """

  mesh: Mesh
  feed: Feed
  init: Callable[[jax.Array], TrainState]
  init_key: jax.Array
  train_steps: TrainSteps
  key: jax.Array

  @property
  def schedule(self) -> StepSchedule:
    """The steps of the run."""
    return self.feed.schedule

  def initial_state(self) -> TrainState:
    """Returns the state at step 0, on every device."""
    return initial_state(self.init, self.init_key, self.mesh)

  def abstract_state(self) -> TrainState:
    """Returns the shapes, dtypes and shardings of a state."""
    return abstract_state(self.init, self.init_key, self.mesh)


def check_devices(config: Config, mesh: Mesh) -> None:
  """Raises ValueError if the devices cannot share a batch equally."""
  devices = f'the number of devices ({mesh.size})'
  if config.batch_size % mesh.size:
    raise ValueError(
      f'config.batch_size={config.batch_size} must be a multiple of {devices}'
    )
  virtual = config.virtual_devices
  power_of_two = not virtual & (virtual - 1)
  if config.device_count_invariant and (
    not power_of_two or virtual % mesh.size
  ):
    raise ValueError(
      f'config.virtual_devices={virtual} must be a power of two and a multiple '
      f'of {devices}, because config.device_count_invariant=True'
    )


def build_feed(
  config: Config, data: Mapping[str, np.ndarray] | RandomAccess, mesh: Mesh
) -> Feed:
  """Returns the batches of a run.

  Args:
    config: the config of the run.
    data: what the task's `train_data` returned.
    mesh: the devices.

  Raises:
    ValueError: there are no examples, or more steps than can be counted.
  """
  schedule = StepSchedule(
    epochs=config.epochs,
    examples=count_examples(data),
    batch_size=config.batch_size,
    steps_per_dispatch=config.steps_per_dispatch,
    eval_every=config.eval_every,
    checkpoint_every=config.checkpoint_every,
  )
  # An invariant step cuts the batch itself, so every device needs all indices.
  return make_feed(
    data,
    config.seed,
    schedule,
    mesh,
    everywhere=config.device_count_invariant,
  )


def assemble(
  task: Task,
  config: Config,
  feed: Feed,
  mesh: Mesh,
  *,
  looped: bool | None = None,
) -> Training:
  """Builds the optimizer, the initial state, the keys and the training step.

  Nothing is compiled yet but the split of the seed into keys.

  Args:
    task: `init` and `make_loss` are used.
    config: the config of the run.
    feed: the batches, see `build_feed`.
    mesh: the devices.
    looped: see `launch.train.step.make_train_steps`.

  Raises:
    ValueError: see `check_devices`.
  """
  check_devices(config, mesh)
  learning_rate = make_schedule(config.optimizer, feed.schedule)
  optimizer = make_optimizer(config.optimizer, learning_rate)
  if config.device_count_invariant:
    train_steps = make_invariant_steps(
      task.make_loss(config, None),
      optimizer,
      learning_rate,
      feed,
      mesh,
      virtual_devices=config.virtual_devices,
      max_skipped=config.max_skipped_steps,
    )
  else:
    train_steps = make_train_steps(
      task.make_loss(config, mesh),
      optimizer,
      learning_rate,
      feed,
      mesh,
      max_skipped=config.max_skipped_steps,
      looped=looped,
    )
  init_key, key = make_keys(config.seed, mesh)
  init = make_init(task, config, optimizer)
  return Training(mesh, feed, init, init_key, train_steps, key)
