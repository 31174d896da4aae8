"""The space that checkpoints need, before the first of them is written."""

import pathlib
import shutil
from typing import Any

import jax

from launch import manifest
from launch.exits import Exit, blame


def check_space(folder: pathlib.Path, keep: int, state: Any) -> None:
  """Checks that the disk has room for the checkpoints of a run.

  Args:
    folder: of the checkpoints; it need not exist.
    keep: how many are kept.
    state: arrays, or their shapes and dtypes.

  Raises:
    OSError: it has not; says how much there is and how much is needed.
  """
  size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
  size += 1 << 16  # names and sums
  place = next(p for p in (folder, *folder.absolute().parents) if p.is_dir())
  # The newest is written before the oldest is given up.
  more = keep + 1 - len(manifest.steps(folder))
  free = shutil.disk_usage(place).free
  if free < more * size:
    with blame(Exit.DISK):
      raise OSError(
        f'{place} has {_show(free)} free, and {more} more checkpoints of '
        f'{_show(size)} need {_show(more * size)}: make room, lower '
        'config.keep_checkpoints, or choose another --workdir'
      )


def _show(size: float) -> str:
  return f'{size / 1e9:.2f} GB' if size >= 1e9 else f'{size / 1e6:.2f} MB'
