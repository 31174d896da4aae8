"""Checks of training data before step 1, and their fingerprint."""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from jaxmix.files.atomic import write_text
from launch.task import RandomAccess
from launch.train.feeds import count_examples, read_examples

Source = Mapping[str, np.ndarray] | RandomAccess

_PIECE_BYTES = 1 << 22  # read by a thread at a time


def check_inputs(
  source: Source, batch_size: int, workdir: pathlib.Path
) -> str | None:
  """Checks training data once, and returns their fingerprint.

  The values of arrays are checked, unless `workdir` records that they were
  checked before. Of a data source only the first example is read; checking the
  others is left to the reader of the source.

  Args:
    source: what the task's `train_data` returned.
    batch_size: `config.batch_size`.
    workdir: the folder of the run; nothing is written.

  Returns:
    The sha256 of the arrays (names, dtypes, shapes and bytes, so it depends on
    the order of the examples, but not on that of the names), or the
    `fingerprint` of a data source; None if it has none.

  Raises:
    ValueError: there are fewer examples than a batch has, or a value is not a
      number, not finite or too large for its dtype on the device; names the
      array and the index.
  """
  arrays = isinstance(source, Mapping)
  if arrays:
    _check_dtypes(source, min_ndim=1)
  examples = count_examples(source)
  if batch_size > examples:
    raise ValueError(
      f'config.batch_size={batch_size} exceeds the {examples} training '
      'examples; lower it or add data'
    )
  if not arrays:
    first = read_examples(source, np.zeros(1, int), np.zeros(1, int))
    leaves = jax.tree_util.tree_leaves_with_path(first)
    _check_dtypes({jax.tree_util.keystr(path): leaf for path, leaf in leaves})
    return getattr(source, 'fingerprint', None)
  fingerprint = arrays_fingerprint(source)
  if fingerprint != _checked_fingerprint(workdir):
    _check_values(source)
  return fingerprint


def record_inputs(
  fingerprint: str | None, source: Source, workdir: pathlib.Path
):
  """Writes `workdir/data.json`: data of this fingerprint are checked."""
  record: dict[str, Any] = {
    'fingerprint': fingerprint,
    'examples': count_examples(source),
  }
  if isinstance(source, Mapping):
    record['arrays'] = {k: [str(v.dtype), *v.shape] for k, v in source.items()}
  write_text(workdir / 'data.json', json.dumps(record, indent=2) + '\n')


def _checked_fingerprint(workdir: pathlib.Path) -> str | None:
  """Returns the fingerprint of the data that `workdir` records as checked."""
  path = workdir / 'data.json'
  with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
    return (
      json.loads(path.read_text())['fingerprint'] if path.is_file() else None
    )


def arrays_fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
  """Returns the sha256 of arrays `[N, ...]`: see `check_inputs`."""
  total = hashlib.sha256()
  for name, array in sorted(arrays.items()):
    total.update(f'{name} {array.dtype} {list(array.shape)} '.encode())
    for _, part in _each(array, f'Hashing {name!r}', _sha256):
      total.update(part)
  return total.hexdigest()


def _sha256(piece: np.ndarray) -> bytes:
  # As bytes: the buffer protocol lacks some dtypes, such as bfloat16.
  piece = np.ascontiguousarray(piece).reshape(-1).view(np.uint8)
  return hashlib.sha256(piece.data).digest()


def _check_dtypes(arrays: Mapping[str, Any], min_ndim: int = 0) -> None:
  for name, array in arrays.items():
    dtype = getattr(array, 'dtype', None)
    number = dtype is not None and jnp.issubdtype(dtype, jnp.number)
    if np.ndim(array) < min_ndim or not (number or dtype == np.bool_):
      raise ValueError(
        f'the training array {name!r} is {dtype or type(array).__name__} of '
        f'shape {list(np.shape(array))}; it must be an array [N, ...] of '
        'numbers or bools'
      )


def _check_values(arrays: Mapping[str, np.ndarray]) -> None:
  for name, array in arrays.items():
    target = jax.dtypes.canonicalize_dtype(array.dtype)  # on the device
    floating = jnp.issubdtype(array.dtype, jnp.inexact)
    if not floating and target == array.dtype:
      continue
    find = functools.partial(_first_bad, target)
    for start, bad in _each(array, f'Checking {name!r}', find):
      if bad is not None:
        where = [start + bad[0], *bad[1:]]
        raise ValueError(
          f'the training array {name!r} has the value {array[tuple(where)]} '
          f'at index {where}; it must be a {"finite " if floating else ""}'
          f'{target}. Repair example {where[0]} or remove it'
        )


def _first_bad(target: Any, piece: np.ndarray) -> list[int] | None:
  """Returns the index of the first value that the device cannot hold."""
  with np.errstate(over='ignore', invalid='ignore'):
    converted = piece.astype(target, copy=False)
  inexact = jnp.issubdtype(piece.dtype, jnp.inexact)
  good = np.isfinite(converted) if inexact else converted == piece
  return None if good.all() else np.argwhere(~good)[0].tolist()


def _each(
  array: np.ndarray, doing: str, function: Callable[[np.ndarray], Any]
) -> Iterator[tuple[int, Any]]:
  """Yields `(first index, function(piece))` for all pieces of an array."""
  array = np.asarray(array)
  rows = max(1, _PIECE_BYTES * len(array) // max(1, array.nbytes))
  starts = range(0, len(array), rows)
  with (
    ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    tqdm(total=len(array), desc=doing, delay=5) as bar,
  ):
    results = pool.map(lambda i: function(array[i : i + rows]), starts)
    for start, result in zip(starts, results, strict=True):
      yield start, result
      bar.update(min(rows, len(array) - start))
