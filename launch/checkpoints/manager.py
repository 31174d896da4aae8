"""Checkpoints of a run: saved while it trains, and never believed unchecked.

A checkpoint is a folder `checkpoints/<step>`: `state`, written by orbax, and
the manifest of `launch.checkpoints.manifest`. It is written under another name,
read back and compared with what was in memory, and only then gets its name;
only then an older one is given up.
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
from launch.train.state import TrainState
from launch.workdir.env import versions

# Of folders that are not checkpoints yet, or no longer.
_PART = 'part-'


class Checkpoints:
  """The checkpoints of one run, written while training goes on.

  Each holds the state and a manifest: what the state belongs to. No key is
  stored, as all keys follow from the seed and the step.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    keep: int,
    belongs_to: Mapping[str, Any],
    *,
    max_failures: int = 0,
    tell: Callable[[str], None] = logging.warning,
  ):
    """Opens the folder and removes what a crash left in it.

    Args:
      folder: where the checkpoints lie, one folder per step; created when the
        first is saved.
      keep: how many of the newest are kept.
      belongs_to: JSON values that say which run this is, such as the seed; a
        checkpoint with other values is refused.
      max_failures: so many saves in a row may fail without an error.
      tell: shows a warning to people.
    """
    self._folder = folder.absolute()
    self._keep = keep
    self._belongs_to = dict(belongs_to)
    self._max_failures = max_failures
    self._tell = tell
    self._failures = 0
    self._newest = max(manifest.steps(self._folder), default=None)
    self._saver = ThreadPoolExecutor(1, 'checkpoint')
    self._saving: Future[None] | None = None
    # What a save that fails is tried again with.
    self._pending: tuple[int, TrainState, Callable[[], None]] | None = None
    self._before_it: int | None = None
    self._clear()

  def _clear(self) -> None:
    for left in self._folder.glob(f'{_PART}*'):
      if left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
      else:
        left.unlink(missing_ok=True)

  def save(
    self,
    step: int,
    state: TrainState,
    *,
    before: Callable[[], None] = lambda: None,
  ) -> None:
    """Saves the state in the background, from its copy to the host on.

    The caller must not donate it: `launch.train.state.make_snapshot` makes a
    copy that can be given away. While one state is written another waits here.

    Args:
      step: the number of steps done.
      state: on the devices.
      before: called in the background; what must be on disk before a checkpoint
        may say that the run has come this far. If it fails, so does the save.

    Raises:
      RuntimeError: a checkpoint of this step or a later one exists.
      OSError: more than `max_failures` saves in a row have failed.
      FloatingPointError: the state before was not finite.
    """
    self._collect()
    if self._newest is not None and step <= self._newest:
      raise RuntimeError(
        f'step {step} was not saved to {self._folder}: it has step '
        f'{self._newest}'
      )
    self._submit(step, state, before)

  def latest_step(self) -> int | None:
    """Returns the newest step that is saved or being saved."""
    return self._newest

  def wait(self, give_up: Callable[[], Any] = lambda: False) -> None:
    """Waits until the last state is saved; if that fails, tries again.

    Args:
      give_up: asked from the second failure on.

    Raises:
      OSError: more than `max_failures` saves in a row have failed, or it gave
        up.
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
    self, step: int, state: TrainState, before: Callable[[], None]
  ) -> None:
    self._pending = (step, state, before)
    self._before_it, self._newest = self._newest, step
    self._saving = self._saver.submit(self._save, step, state, before)

  def _collect(self, *, last: bool = False) -> None:
    """Learns how the last save went; if it failed, there may be no other."""
    if not self._saving:
      return
    step = self._newest
    saving, self._saving = self._saving, None
    try:
      saving.result()
      self._failures = 0
    except FloatingPointError:
      raise
    # Whatever orbax, tensorstore and the disk raise.
    except Exception as error:
      self._newest = self._before_it
      self._failures += 1
      text = (
        f'step {step} was not saved to {self._folder} '
        f'({" ".join(str(error).split())})'
      )
      if last or self._failures > self._max_failures:
        with classify_errors(ExitCode.DISK):
          raise OSError(
            f'{text}; that was failure {self._failures} in a row, '
            f'config.max_save_failures={self._max_failures} are allowed. The '
            f'newest checkpoint is {self._newest}: make room or mend the disk, '
            'and run the same command again'
          ) from error
      self._tell(
        f'warning: {text}; training goes on, failure {self._failures} of '
        f'{self._max_failures} allowed in a row'
      )

  def _save(
    self, step: int, state: TrainState, before: Callable[[], None]
  ) -> None:
    if jax.process_index():  # All hold the same state.
      self._pending = None
      return
    try:
      host = jax.device_get(state)
      storage.check_finite(step, host)
      before()
      # A folder of the run that is gone is not to be made again.
      self._folder.mkdir(exist_ok=True)
      self._clear()
      self._write(step, host)
    except BaseException:
      self._clear()
      with contextlib.suppress(OSError):
        self._folder.rmdir()
        self._folder.parent.rmdir()
      raise
    self._pending = None  # The copy on the devices is free.
    # What cannot be removed now can be after the next save.
    with contextlib.suppress(OSError):
      for old in manifest.steps(self._folder)[: -self._keep]:
        self._give_up(old)

  def _write(self, step: int, host: Any) -> None:
    leaves = storage.describe(host)
    part = self._folder / f'{_PART}{step}'
    part.mkdir()
    made = part.stat()
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
    # tensorstore makes the folders above its own anew, if a disk went away.
    if not os.path.samestat(made, part.stat()):
      raise FileNotFoundError(f'No such file or directory any more: {part}')
    if (self._folder / str(step)).is_dir():  # from a save that failed later
      self._give_up(step)
    part.rename(self._folder / str(step))
    sync(self._folder)

  def _give_up(self, step: int) -> None:
    # Renamed first: half of a checkpoint should not look like one.
    gone = self._folder / f'{_PART}old-{step}'
    (self._folder / str(step)).rename(gone)
    shutil.rmtree(gone, ignore_errors=True)

  def restore(self, target: TrainState) -> tuple[int, TrainState] | None:
    """Restores the newest checkpoint whose every bit is as it was saved.

    Newer ones that are not are moved to the folder `damaged` beside this one,
    with a warning, once an older one is restored: the run computes the same
    steps again.

    Args:
      target: a state of `jax.ShapeDtypeStruct`s with shardings.

    Returns:
      `(step, state)`, or None if there are no checkpoints.

    Raises:
      ValueError: the checkpoint belongs to another run or another model, or
        all are damaged.
      OSError: it cannot be read now.
    """
    broken = {}
    for step in reversed(manifest.steps(self._folder)):
      path = self._folder / str(step)
      try:
        content = manifest.check(path, f'checkpoint {step}')
      except ValueError as error:
        broken[step] = error
        continue
      self._check(content)
      with classify_errors(ExitCode.CHECKPOINT):
        try:
          storage.check_shapes(content['leaves'], target)
        except ValueError as error:
          raise ValueError(
            f'{path} belongs to another model: {error}. Choose another '
            '--workdir, or the code and packages that wrote it'
          ) from None
        host = storage.read(path / 'state', target)
        storage.compare(content['leaves'], host)
      for damaged, error in broken.items():
        aside = self._set_aside(damaged)
        self._tell(
          f'warning: checkpoint {damaged} is damaged ({error}); it is now '
          f'{aside}, going on from step {step}'
        )
      self._newest = step
      return step, jax.tree.map(
        lambda x, like: device_put_global(x, like.sharding), host, target
      )
    if broken:
      step, error = next(iter(broken.items()))
      with classify_errors(ExitCode.CHECKPOINT):
        raise ValueError(
          f'all checkpoints in {self._folder} are damaged: '
          f'{sorted(broken)}; {error}. Put back a copy, or begin again with '
          'another --workdir'
        ) from error
    return None

  def _set_aside(self, step: int) -> pathlib.Path:
    aside = self._folder.parent / 'damaged' / f'{step}-{time.time_ns()}'
    aside.parent.mkdir(exist_ok=True)
    (self._folder / str(step)).rename(aside)
    return aside

  def _check(self, content: Mapping[str, Any]) -> None:
    there = content['belongs_to']
    other = [
      f'{name}: {there.get(name)!r} there, {value!r} here'
      for name, value in self._belongs_to.items()
      if there.get(name) != value
    ]
    if other:
      raise ValueError(
        f'{self._folder} belongs to another run ({"; ".join(other)}); choose '
        'another --workdir'
      )

  def close(self) -> None:
    """Waits until nothing is written any more."""
    self._saver.shutdown()
