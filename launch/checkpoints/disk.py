"""The space that checkpoints need, before the first of them is written."""

import pathlib
import shutil
import tempfile
from typing import Any

import jax

from launch.checkpoints import manifest
from launch.shell.exit_codes import ExitCode, classify_errors


def check_space(folder: pathlib.Path, keep: int, state: Any) -> None:
  """Checks that the disk takes the checkpoints of a run, and has room for them.

  Args:
    folder: of the checkpoints; made in that of the run.
    keep: how many are kept.
    state: arrays, or their shapes and dtypes.

  Raises:
    OSError: nothing can be written there, or there is less room than is needed;
      says how much of both.
  """
  with classify_errors(ExitCode.DISK):
    try:
      folder.mkdir(exist_ok=True)
      with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b'?')
    except OSError as error:
      raise OSError(
        f'{folder} takes no files ({error.strerror}): mend that, or choose '
        'another --workdir'
      ) from error
  size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
  size += 1 << 16  # names and sums
  # The newest is written before the oldest is given up.
  more = keep + 1 - len(manifest.steps(folder))
  free = shutil.disk_usage(folder).free
  if free < more * size:
    with classify_errors(ExitCode.DISK):
      raise OSError(
        f'{folder} has {_show(free)} free, and {more} more checkpoints of '
        f'{_show(size)} need {_show(more * size)}: make room, lower '
        'config.keep_checkpoints, or choose another --workdir'
      )


def _show(size: float) -> str:
  return f'{size / 1e9:.2f} GB' if size >= 1e9 else f'{size / 1e6:.2f} MB'
