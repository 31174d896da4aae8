"""Checkpoint manager: saves states in the background and restores checked ones.

A checkpoint is a folder `checkpoints/<step>` with `state`, written by orbax,
and the manifest of `launch.checkpoints.manifest`. It is written under a
temporary name, read back and compared with the state in memory; then it is
renamed, and only then is an older one deleted.
"""

import contextlib
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from absl import logging

from jaxmix.files.atomic import sync
from launch.checkpoints import manifest, storage
from launch.mesh import device_put_global
from launch.shell.exit_codes import ExitCode, classify_errors
from launch.workdir.env import versions

# A train state: a pytree of arrays.
State = Any
# Prefix of folders that are not a checkpoint yet, or not any more.
_PART = 'part-'


class Checkpoints:
  """The checkpoints of one run, written while it trains.

  Each holds the state, and a manifest with the identity of the run. No random
  key is stored, because all keys follow from the seed and the step.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    keep: int,
    belongs_to: Mapping[str, Any],
    *,
    max_failures: int = 0,
    warn: Callable[[str], None] = logging.warning,
  ):
    """Opens the folder and removes incomplete checkpoints.

    Args:
      folder: holds one folder per checkpoint; created by the first save.
      keep: number of the newest checkpoints that are kept.
      belongs_to: the identity of the run as JSON values, such as the seed; a
        checkpoint with other values is refused.
      max_failures: number of saves in a row that may fail without an error.
      warn: shows a warning to people.
    """
    self._folder = folder.absolute()
    self._keep = keep
    self._belongs_to = dict(belongs_to)
    self._max_failures = max_failures
    self._warn = warn
    self._failures = 0
    self._newest = max(manifest.steps(self._folder), default=None)
    self._saver = ThreadPoolExecutor(1, 'checkpoint')
    self._saving: Future[None] | None = None
    # The last save, repeated if it fails.
    self._pending: tuple[int, State, Callable[[], None]] | None = None
    self._previous: int | None = None
    self._clear()

  def _clear(self) -> None:
    for path in self._folder.glob(f'{_PART}*'):
      if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
      else:
        path.unlink(missing_ok=True)

  def save(
    self,
    step: int,
    state: State,
    *,
    before: Callable[[], None] = lambda: None,
  ) -> None:
    """Saves the state in the background, including its copy to the host.

    The caller must not donate the state, but can save a copy of it, made by
    `launch.train.state.make_snapshot`. If the last save is not finished, this
    waits for it.

    Args:
      step: the number of steps done.
      state: arrays on the devices.
      before: called in the background before the checkpoint is written, to
        write what must be on disk first. If it fails, the save fails.

    Raises:
      RuntimeError: a checkpoint of this step or a later one exists.
      OSError: more than `max_failures` saves in a row have failed.
      FloatingPointError: the state of the last save was not finite.
    """
    self._collect()
    if self._newest is not None and step <= self._newest:
      raise RuntimeError(
        f'step {step} was not saved to {self._folder}, which already has step '
        f'{self._newest}'
      )
    self._submit(step, state, before)

  def latest_step(self) -> int | None:
    """Returns the newest step that is saved or being saved."""
    return self._newest

  def wait(self, give_up: Callable[[], Any] = lambda: False) -> None:
    """Waits until the last state is saved; repeats the save if it fails.

    Args:
      give_up: called from the second failure on; if it returns true, the save
        is not repeated again.

    Raises:
      OSError: more than `max_failures` saves in a row have failed, or
        `give_up` returned true.
      FloatingPointError: the state is not finite.
    """
    tries = 0
    while self._saving:
      failures, tries = self._failures, tries + 1
      self._collect(last=tries > 1 and bool(give_up()))
      if self._failures > failures and self._pending:
        time.sleep(min(30, 2 ** (tries - 1)))
        step, state, before = self._pending
        self._submit(step, state, before)

  def _submit(
    self, step: int, state: State, before: Callable[[], None]
  ) -> None:
    self._pending = (step, state, before)
    self._previous, self._newest = self._newest, step
    self._saving = self._saver.submit(self._save, step, state, before)

  def _collect(self, *, last: bool = False) -> None:
    """Waits for the last save; raises if it failed and none may follow."""
    if not self._saving:
      return
    step = self._newest
    saving, self._saving = self._saving, None
    try:
      saving.result()
      self._failures = 0
    except FloatingPointError:
      raise
    # Anything that orbax, tensorstore and the disk raise.
    except Exception as error:
      self._newest = self._previous
      self._failures += 1
      text = (
        f'step {step} was not saved to {self._folder} '
        f'({" ".join(str(error).split())})'
      )
      if last or self._failures > self._max_failures:
        with classify_errors(ExitCode.DISK):
          raise OSError(
            f'{text}; this was failure {self._failures} in a row, and '
            f'config.max_save_failures={self._max_failures}. The newest '
            f'checkpoint is {self._newest}. Make room on the disk or repair '
            'it, then run the same command again'
          ) from error
      self._warn(
        f'warning: {text}; training continues after failure {self._failures} '
        f'of {self._max_failures} allowed in a row'
      )

  def _save(self, step: int, state: State, before: Callable[[], None]) -> None:
    if jax.process_index():  # All processes hold the same state.
      self._pending = None
      return
    try:
      host = jax.device_get(state)
      storage.check_finite(step, host)
      before()
      # If the folder of the run is gone, this fails: it is not created again.
      self._folder.mkdir(exist_ok=True)
      self._clear()
      self._write(step, host)
    except BaseException:
      self._clear()
      with contextlib.suppress(OSError):
        self._folder.rmdir()
        self._folder.parent.rmdir()
      raise
    self._pending = None  # Frees the copy on the devices.
    # If a checkpoint cannot be deleted now, the next save tries again.
    with contextlib.suppress(OSError):
      for old in manifest.steps(self._folder)[: -self._keep]:
        self._delete(old)

  def _write(self, step: int, host: Any) -> None:
    leaves = storage.describe(host)
    part = self._folder / f'{_PART}{step}'
    part.mkdir()
    created = part.stat()
    storage.write(part / 'state', host)
    storage.check_same(host, storage.read(part / 'state', host))
    manifest.write(
      part,
      {
        'step': step,
        'belongs_to': self._belongs_to,
        'versions': versions(),
        'leaves': leaves,
      },
    )
    # tensorstore creates missing parent folders, such as after an unmount.
    if not os.path.samestat(created, part.stat()):
      raise FileNotFoundError(
        f'No such file or directory: {part} was removed while it was written'
      )
    if (self._folder / str(step)).is_dir():  # of a save that failed later
      self._delete(step)
    part.rename(self._folder / str(step))
    sync(self._folder)

  def _delete(self, step: int) -> None:
    # Renamed first, so that a partly deleted checkpoint is not taken for one.
    old = self._folder / f'{_PART}old-{step}'
    (self._folder / str(step)).rename(old)
    shutil.rmtree(old, ignore_errors=True)

  def restore(self, target: State) -> tuple[int, State] | None:
    """Restores the newest checkpoint that is undamaged, to the bit.

    Newer, damaged ones are moved to the folder `damaged` beside this one, with
    a warning, once an older one is restored: the run computes their steps
    again.

    Args:
      target: the state as `jax.ShapeDtypeStruct`s with shardings.

    Returns:
      `(step, state)`, or None if there are no checkpoints.

    Raises:
      ValueError: the checkpoint belongs to another run or another model, or
        all checkpoints are damaged.
      OSError: a checkpoint cannot be read at present.
    """
    damaged = {}
    for step in reversed(manifest.steps(self._folder)):
      path = self._folder / str(step)
      try:
        content = manifest.check(path, f'checkpoint {step}')
      except ValueError as error:
        damaged[step] = error
        continue
      self._check_identity(content)
      with classify_errors(ExitCode.CHECKPOINT):
        try:
          storage.check_shapes(content['leaves'], target)
        except ValueError as error:
          raise ValueError(
            f'{path} belongs to another model: {error}. Choose another '
            '--workdir, or use the code and packages that wrote it'
          ) from None
        host = storage.read(path / 'state', target)
        storage.compare(content['leaves'], host)
      for newer, error in damaged.items():
        aside = self._set_aside(newer)
        self._warn(
          f'warning: checkpoint {newer} is damaged ({error}) and was moved to '
          f'{aside}; resuming from step {step}'
        )
      self._newest = step
      return step, jax.tree.map(
        lambda x, like: device_put_global(x, like.sharding), host, target
      )
    if damaged:
      error = next(iter(damaged.values()))
      with classify_errors(ExitCode.CHECKPOINT):
        raise ValueError(
          f'all checkpoints in {self._folder} are damaged: '
          f'{sorted(damaged)}; {error}. Put back a copy, or start again with '
          'another --workdir'
        ) from error
    return None

  def _set_aside(self, step: int) -> pathlib.Path:
    aside = self._folder.parent / 'damaged' / f'{step}-{time.time_ns()}'
    aside.parent.mkdir(exist_ok=True)
    (self._folder / str(step)).rename(aside)
    return aside

  def _check_identity(self, content: Mapping[str, Any]) -> None:
    saved = content['belongs_to']
    differences = [
      f'{name}: {saved.get(name)!r} saved, {value!r} now'
      for name, value in self._belongs_to.items()
      if saved.get(name) != value
    ]
    if differences:
      raise ValueError(
        f'{self._folder} belongs to another run ({"; ".join(differences)}); '
        'choose another --workdir'
      )

  def close(self) -> None:
    """Waits until the last save has ended."""
    self._saver.shutdown()
