"""What training data must be before step 1, and the digest that names them."""

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

_CHUNK_BYTES = 1 << 22  # what a thread looks at, at a time


def check_inputs(
  source: Source, batch_size: int, workdir: pathlib.Path
) -> str | None:
  """Checks training data once, and gives the digest of what they are.

  Arrays are looked through unless `workdir` says that they were before. Of a
  source one example is read; its values are for whoever reads it to check.

  Args:
    source: what a task's `train_data` returned.
    batch_size: `config.batch_size`.
    workdir: of the run; nothing is written.

  Returns:
    The sha256 of the arrays (names, dtypes, shapes and bytes, so the order of
    the examples too, but not that of the names), or the `digest` of a source;
    None if it has none.

  Raises:
    ValueError: fewer examples than a batch has, or what is no number, not
      finite or too large for its dtype on the device; names array and index.
  """
  arrays = isinstance(source, Mapping)
  if arrays:
    _check_dtypes(source, least=1)
  examples = count_examples(source)
  if batch_size > examples:
    raise ValueError(
      f'config.batch_size={batch_size} must not be above the number of '
      f'training examples, {examples}'
    )
  if not arrays:
    first = read_examples(source, np.zeros(1, int), np.zeros(1, int))
    leaves = jax.tree_util.tree_leaves_with_path(first)
    _check_dtypes({jax.tree_util.keystr(path): leaf for path, leaf in leaves})
    return getattr(source, 'digest', None)
  digest = arrays_fingerprint(source)
  if digest != _known(workdir):
    _check_values(source)
  return digest


def record_inputs(digest: str | None, source: Source, workdir: pathlib.Path):
  """Writes `workdir/data.json`: data of this digest have passed the checks."""
  about: dict[str, Any] = {'digest': digest, 'examples': count_examples(source)}
  if isinstance(source, Mapping):
    about['arrays'] = {k: [str(v.dtype), *v.shape] for k, v in source.items()}
  write_text(workdir / 'data.json', json.dumps(about, indent=2) + '\n')


def _known(workdir: pathlib.Path) -> str | None:
  path = workdir / 'data.json'
  with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
    return json.loads(path.read_text())['digest'] if path.is_file() else None


def arrays_fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
  """The sha256 of arrays `[N, ...]`, in threads: see `check_inputs`."""
  whole = hashlib.sha256()
  for name, array in sorted(arrays.items()):
    whole.update(f'{name} {array.dtype} {list(array.shape)} '.encode())
    for _, part in _each(array, f'Hashing {name!r}', _sha256):
      whole.update(part)
  return whole.hexdigest()


def _sha256(block: np.ndarray) -> bytes:
  # Of bytes: the buffer protocol does not know every dtype, such as bfloat16.
  block = np.ascontiguousarray(block).reshape(-1).view(np.uint8)
  return hashlib.sha256(block.data).digest()


def _check_dtypes(arrays: Mapping[str, Any], least: int = 0) -> None:
  for name, array in arrays.items():
    dtype = getattr(array, 'dtype', None)
    number = dtype is not None and jnp.issubdtype(dtype, jnp.number)
    if np.ndim(array) < least or not (number or dtype == np.bool_):
      raise ValueError(
        f'the training array {name!r} is {dtype or type(array).__name__} of '
        f'shape {list(np.shape(array))}: it must be an array [N, ...] of '
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
          f'the training array {name!r} has {array[tuple(where)]} at {where}: '
          f'it must be a {"finite " if floating else ""}{target}; repair '
          f'example {where[0]} or leave it out'
        )


def _first_bad(target: Any, block: np.ndarray) -> list[int] | None:
  with np.errstate(over='ignore', invalid='ignore'):
    there = block.astype(target, copy=False)
  inexact = jnp.issubdtype(block.dtype, jnp.inexact)
  good = np.isfinite(there) if inexact else there == block
  return None if good.all() else np.argwhere(~good)[0].tolist()


def _each(
  array: np.ndarray, doing: str, function: Callable[[np.ndarray], Any]
) -> Iterator[tuple[int, Any]]:
  """Yields `(first row, function(rows))` for the chunks of an array."""
  array = np.asarray(array)
  rows = max(1, _CHUNK_BYTES * len(array) // max(1, array.nbytes))
  starts = range(0, len(array), rows)
  with (
    ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    tqdm(total=len(array), desc=doing, delay=5) as bar,
  ):
    found = pool.map(lambda i: function(array[i : i + rows]), starts)
    for start, result in zip(starts, found, strict=True):
      yield start, result
      bar.update(min(rows, len(array) - start))
