"""Checkpoint storage: states on disk, written and read with orbax."""

import contextlib
import hashlib
import logging
import os
import pathlib
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from launch.checkpoints import manifest

# Files of this size are written and hashed in parallel.
_FILE_BYTES = 1 << 26


def write(folder: pathlib.Path, state: Any) -> None:
  """Writes a tree of numpy arrays to `folder`, which must not exist."""
  with contextlib.closing(_make_checkpointer()) as checkpointer:
    checkpointer.save(
      folder,
      args=ocp.args.PyTreeSave(state, ocdbt_target_data_file_size=_FILE_BYTES),
    )


def read(folder: pathlib.Path, like: Any) -> Any:
  """Returns a stored tree as numpy arrays, in the structure of `like`."""
  with contextlib.closing(_make_checkpointer()) as checkpointer:
    return checkpointer.restore(
      folder,
      args=ocp.args.PyTreeRestore(like, restore_args=_as_numpy(like)),
    )


def read_dicts(folder: pathlib.Path) -> dict[str, Any]:
  """Returns a stored tree as nested dicts of numpy arrays."""
  with contextlib.closing(_make_checkpointer()) as checkpointer:
    metadata: Any = checkpointer.metadata(folder)
    return checkpointer.restore(
      folder,
      args=ocp.args.PyTreeRestore(
        restore_args=_as_numpy(metadata.item_metadata.tree)
      ),
    )


def silence_orbax() -> None:
  """Silences orbax, whose errors are reported by the code that catches them.

  Otherwise orbax logs its progress and the errors that it raises, and its
  unfinished coroutines and asyncio print further errors after them.
  """
  absl = logging.getLogger('absl')
  absl.addFilter(lambda record: '/orbax/' not in record.pathname)
  logging.getLogger('asyncio').setLevel(logging.CRITICAL)
  show = sys.unraisablehook

  def show_others(unraisable: Any) -> None:
    if str(unraisable.exc_value) != 'Event loop is closed':
      show(unraisable)

  sys.unraisablehook = show_others


def read_newest(
  folder: pathlib.Path,
) -> tuple[int, dict[str, Any], dict[str, Any]]:
  """Reads the newest checkpoint without knowing its structure.

  Args:
    folder: the folder of all checkpoints of a run.

  Returns:
    `(step, manifest, state)`; the state as nested dicts of numpy arrays.

  Raises:
    FileNotFoundError: there are no checkpoints.
    ValueError: the newest one is damaged.
  """
  while steps := manifest.steps(folder):
    newest = folder.absolute() / str(steps[-1])
    try:
      content = manifest.check(newest)
      return steps[-1], content, read_dicts(newest / 'state')
    # Anything that orbax raises if the run deletes the checkpoint meanwhile.
    except Exception:
      if newest.exists():
        raise
  raise FileNotFoundError(f'{folder} holds no checkpoint yet')


def _as_numpy(tree: Any) -> Any:
  return jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)


def _make_checkpointer() -> ocp.Checkpointer:
  # Floats hardly compress, and compression takes three times as long. The state
  # is the same in every process: each reads it by itself, and one saves it.
  alone = ocp.options.MultiprocessingOptions(
    primary_host=jax.process_index(), active_processes={jax.process_index()}
  )
  return ocp.Checkpointer(
    ocp.PyTreeCheckpointHandler(
      use_compression=False, multiprocessing_options=alone
    ),
    multiprocessing_options=alone,
  )


def _leaves(tree: Any) -> list[tuple[str, Any]]:
  """Returns the leaves with their paths, such as `params/block1/kernel`."""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  return [
    (jax.tree_util.keystr(path, simple=True, separator='/'), leaf)
    for path, leaf in flat
  ]


def _describe(leaf: Any) -> dict[str, Any]:
  return {
    'shape': list(np.shape(leaf)),
    'dtype': str(leaf.dtype),
    'sha256': hashlib.sha256(_bytes(leaf).data).hexdigest(),
  }


def describe(host: Any) -> dict[str, dict[str, Any]]:
  """Returns shape, dtype and sha256 of every leaf, by its path."""
  paths, leaves = zip(*_leaves(host), strict=True)
  with ThreadPoolExecutor(len(os.sched_getaffinity(0)), 'sha256') as pool:
    return dict(zip(paths, pool.map(_describe, leaves), strict=True))


def compare(expected: Mapping[str, Any], host: Any) -> None:
  """Raises ValueError naming a leaf that differs from its description."""
  for path, actual in describe(host).items():
    if actual != expected[path]:
      raise ValueError(
        f'{path} was read as {actual}, expected {expected[path]}'
      )


def check_same(expected: Any, actual: Any) -> None:
  """Raises ValueError naming a leaf that differs in a bit, or in its dtype."""
  pairs = zip(_leaves(expected), _leaves(actual), strict=True)
  for (path, one), (_, other) in pairs:
    same = one.shape == other.shape and one.dtype == other.dtype
    if not same or not np.array_equal(_bytes(one), _bytes(other)):
      raise ValueError(f'{path} was read back with other values than written')


def _bytes(leaf: Any) -> np.ndarray:
  return np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)


def check_shapes(saved: Mapping[str, Any], target: Any) -> None:
  """Raises ValueError naming a leaf of another shape or dtype than saved."""
  old = {name: (x['shape'], x['dtype']) for name, x in saved.items()}
  new = {name: (list(x.shape), str(x.dtype)) for name, x in _leaves(target)}
  for name in sorted(old.keys() | new.keys()):
    if old.get(name) != new.get(name):
      raise ValueError(
        f'{name} is {_show(old.get(name))} in the checkpoint, but '
        f'{_show(new.get(name))} now'
      )


def _show(array: tuple[Collection[int], str] | None) -> str:
  return f'{array[1]}{list(array[0])}' if array else 'absent'


def check_finite(step: int, host: Any) -> None:
  """Raises FloatingPointError naming a leaf that is not finite."""
  for path, leaf in _leaves(host):
    if not jax.numpy.issubdtype(leaf.dtype, np.inexact):
      continue
    # The sum is a fast first check; it rarely overflows for finite elements.
    with np.errstate(all='ignore'):
      total = np.sum(leaf, dtype=np.promote_types(leaf.dtype, np.float32))
    if not np.isfinite(total) and not np.isfinite(leaf).all():
      raise FloatingPointError(
        f'{path} is not finite after step {step}, although the loss and all '
        'gradients were finite. This state is not saved; lower '
        'config.optimizer.lr'
      )
