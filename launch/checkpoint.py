"""Checkpoints of a run; the one place where orbax is used."""

import contextlib
import pathlib
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from launch.env import versions
from launch.state import TrainState


class Checkpoints:
  """The checkpoints of one run, written while training goes on.

  Each holds the state and a manifest: what the state belongs to. No key is
  stored, as all keys follow from the seed and the step.
  """

  def __init__(
    self, folder: pathlib.Path, keep: int, belongs_to: Mapping[str, Any]
  ):
    """Opens or creates the folder.

    Args:
      folder: where the checkpoints lie, one folder per step.
      keep: how many of the newest are kept.
      belongs_to: JSON values that say which run this is, such as the seed; a
        checkpoint with other values is refused.
    """
    self._belongs_to = dict(belongs_to)
    self._manager = ocp.CheckpointManager(
      folder.absolute(),
      options=ocp.CheckpointManagerOptions(max_to_keep=keep),
      item_names=('state', 'manifest'),
    )
    self._newest = self._manager.latest_step()
    # orbax writes files in the background, but copies from the devices in the
    # thread that calls it.
    self._saver = ThreadPoolExecutor(1, 'checkpoint')
    self._saving: Future[None] | None = None

  def save(self, step: int, state: TrainState) -> None:
    """Saves the state in the background, from its copy to the host on.

    The caller must not donate it: `launch.state.make_snapshot` makes a copy
    that can be given away. While one state is written another can wait, on the
    devices; a third waits here. An error of a save before is raised here.

    Raises:
      RuntimeError: a checkpoint of this step or a later one exists.
    """
    # orbax would only return False; a run must not go on believing it is safe.
    if self._newest is not None and step <= self._newest:
      raise RuntimeError(
        f'step {step} was not saved to {self._manager.directory}: it has step '
        f'{self._newest}'
      )
    if self._saving:
      self._saving.result()
    self._newest = step
    self._saving = self._saver.submit(self._save, step, state)

  def _save(self, step: int, state: TrainState) -> None:
    saved = self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        manifest=ocp.args.JsonSave(
          {'step': step, **self._belongs_to, 'versions': versions()}
        ),
      ),
    )
    if not saved:
      raise RuntimeError(
        f'step {step} was not saved to {self._manager.directory}: it holds '
        f'the steps {sorted(self._manager.all_steps())}'
      )

  def latest_step(self) -> int | None:
    """Returns the newest step that is saved or being saved."""
    return self._newest

  def wait(self) -> None:
    """Waits until everything is saved; raises what went wrong in it."""
    if self._saving:
      self._saving.result()
    self._manager.wait_until_finished()

  def restore(self, target: TrainState) -> tuple[int, TrainState] | None:
    """Restores the newest checkpoint that can be read.

    Newer ones that cannot (a cut file) are moved to the folder `damaged` beside
    this one, with a warning, once an older one is restored: the run computes
    the same steps again.

    Args:
      target: a state of `jax.ShapeDtypeStruct`s with shardings.

    Returns:
      `(step, state)`, or None if there are no checkpoints.

    Raises:
      ValueError: the checkpoint belongs to another run, or none can be read.
    """
    broken = {}
    for step in sorted(self._manager.all_steps(), reverse=True):
      try:
        manifest, state = self._read(step, target)
      # Whatever orbax and tensorstore raise for damaged files.
      except Exception as error:
        broken[step] = error
        logging.warning('checkpoint %d cannot be read: %s', step, error)
        continue
      self._check(manifest)
      for damaged in broken:
        aside = self._set_aside(damaged)
        logging.warning('it is now %s; going on from %d', aside, step)
      self._newest = step
      return step, state
    if broken:
      step, error = next(iter(broken.items()))
      raise ValueError(
        f'none of the checkpoints {sorted(broken)} in '
        f'{self._manager.directory} can be read; step {step}: {error}'
      ) from error
    return None

  def _set_aside(self, step: int) -> pathlib.Path:
    folder = pathlib.Path(self._manager.directory)
    aside = folder.parent / 'damaged' / f'{step}-{time.time_ns()}'
    aside.parent.mkdir(exist_ok=True)
    (folder / str(step)).rename(aside)
    self._manager.reload()
    return aside

  def _read(self, step: int, target: TrainState):
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(target),
        manifest=ocp.args.JsonRestore(),
      ),
    )
    return restored['manifest'], restored['state']

  def _check(self, manifest: Mapping[str, Any]) -> None:
    other = [
      f'{name}: {manifest.get(name)!r} there, {value!r} here'
      for name, value in self._belongs_to.items()
      if manifest.get(name) != value
    ]
    if other:
      raise ValueError(
        f'{self._manager.directory} belongs to another run '
        f'({"; ".join(other)}); choose another --workdir'
      )

  def close(self) -> None:
    """Waits until everything is saved, and frees the threads that save."""
    try:
      self.wait()
    finally:
      self._saver.shutdown()
      self._manager.close()


def read_newest(
  folder: pathlib.Path,
) -> tuple[int, dict[str, Any], dict[str, Any]]:
  """Reads the newest checkpoint without knowing what it holds.

  Returns:
    `(step, manifest, state)`; the state as nested dicts of numpy arrays.

  Raises:
    FileNotFoundError: there are no checkpoints.
    ValueError: the newest one cannot be read.
  """
  manager = ocp.CheckpointManager(
    folder.absolute(),
    options=ocp.CheckpointManagerOptions(read_only=True, create=False),
    item_handlers={
      'state': ocp.PyTreeCheckpointHandler(),
      'manifest': ocp.JsonCheckpointHandler(),
    },
  )
  with contextlib.closing(manager):
    step = manager.latest_step() if folder.is_dir() else None
    if step is None:
      raise FileNotFoundError(f'{folder} holds no checkpoint yet')
    try:
      shapes = manager.item_metadata(step)['state'].tree
      restored = manager.restore(
        step,
        args=ocp.args.Composite(
          state=ocp.args.PyTreeRestore(
            restore_args=jax.tree.map(
              lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes
            )
          ),
          manifest=ocp.args.JsonRestore(),
        ),
      )
    # Whatever orbax and tensorstore raise for damaged files.
    except Exception as error:
      raise ValueError(
        f'checkpoint {step} in {folder} cannot be read: {error}'
      ) from error
  return step, restored['manifest'], restored['state']
