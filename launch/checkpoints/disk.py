"""Disk check: room for the checkpoints, before the first is written."""

import pathlib
import shutil
import tempfile
from typing import Any

import jax

from launch.checkpoints import manifest
from launch.shell.exit_codes import ExitCode, classify_errors


def check_space(folder: pathlib.Path, keep: int, state: Any) -> None:
  """Checks that the disk can be written, and has room for the checkpoints.

  Args:
    folder: the folder of the checkpoints; created if needed.
    keep: number of checkpoints that are kept.
    state: a state of arrays, or of their shapes and dtypes.

  Raises:
    OSError: the folder cannot be written, or there is too little room; names
      the free and the needed bytes.
  """
  with classify_errors(ExitCode.DISK):
    try:
      folder.mkdir(exist_ok=True)
      with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b'?')
    except OSError as error:
      raise OSError(
        f'{folder} cannot be written ({error.strerror}): repair it, or choose '
        'another --workdir'
      ) from error
  size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
  size += 1 << 16  # manifest and metadata
  # The newest is written before the oldest is deleted.
  more = keep + 1 - len(manifest.steps(folder))
  free = shutil.disk_usage(folder).free
  if free < more * size:
    with classify_errors(ExitCode.DISK):
      raise OSError(
        f'{folder} has {_show(free)} free, but {more} more checkpoints of '
        f'{_show(size)} need {_show(more * size)}. Make room, lower '
        f'config.keep_checkpoints={keep}, or choose another --workdir'
      )


def _show(size: float) -> str:
  return f'{size / 1e9:.2f} GB' if size >= 1e9 else f'{size / 1e6:.2f} MB'
