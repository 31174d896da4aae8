"""Sharded arrays: the rows of many files as one array, read on access.

For N rows in S shards only S numbers are in memory, so that an image store of
100 million images opens as fast as one of ten. Row numbers have 64 bits.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxretrieval.index import image_store


class ShardOffsets(NamedTuple):
  """Row offsets of S shards.

  Attributes:
    names: [S] names of the shards, in order.
    ends: int64 [S], the row after the last one of each shard.

  >>> offsets = ShardOffsets.of({'a': 2, 'b': 0, 'c': 3})
  >>> len(offsets.ends), offsets.size, offsets.locate(2)
  (3, 5, ('c', 0))
  >>> offsets.slices(1, 4)
  [('a', 1, 2), ('c', 0, 2)]
  """

  names: list[str]
  ends: np.ndarray

  @classmethod
  def of(cls, counts: Mapping[str, int]) -> 'ShardOffsets':
    """Returns the offsets of concatenated shards from their row counts."""
    return cls(list(counts), np.cumsum([*counts.values()], dtype=np.int64))

  @property
  def size(self) -> int:
    """N, the number of rows."""
    return int(self.ends[-1]) if len(self.ends) else 0

  def locate(self, row: int) -> tuple[str, int]:
    """Returns the shard of a row, and the row within the shard.

    Raises:
      IndexError: `row` is out of range.
    """
    if not 0 <= row < self.size:
      raise IndexError(f'row {row} is out of range for {self.size} rows')
    shard = int(np.searchsorted(self.ends, row, 'right'))
    return self.names[shard], row - self._start(shard)

  def slices(self, start: int, stop: int) -> list[tuple[str, int, int]]:
    """Returns rows `start` to `stop` as slices `(shard, start, stop)`."""
    result = []
    first = int(np.searchsorted(self.ends, start, 'right'))
    for shard in range(first, len(self.ends)):
      offset, end = self._start(shard), int(self.ends[shard])
      if offset >= stop:
        break
      local = max(start, offset) - offset, min(stop, end) - offset
      if local[0] < local[1]:
        result.append((self.names[shard], *local))
    return result

  def _start(self, shard: int) -> int:
    return int(self.ends[shard - 1]) if shard else 0


class Features:
  """Features float32 [N, D] of sharded files, divided by `scale`.

  Slices are read from disk and not cached.
  """

  dtype = np.dtype(np.float32)

  def __init__(
    self, folder: pathlib.Path, offsets: ShardOffsets, dim: int, scale: float
  ):
    self.shape = offsets.size, dim
    self._folder, self._offsets = folder, offsets
    self._scale = np.float32(scale)

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, rows: slice) -> np.ndarray:
    start, stop, step = rows.indices(len(self))
    if step != 1:
      raise ValueError(f'the slice has step {step}; it must be 1')
    out = np.empty((max(stop - start, 0), self.shape[1]), np.float32)
    done = 0
    for name, first, last in self._offsets.slices(start, stop):
      path, _ = image_store.paths(self._folder, name)
      part = image_store.read_features(path, first, last)
      if part.shape[1] != self.shape[1]:
        raise ValueError(
          f'{path} has features of width {part.shape[1]}; the index has width '
          f'{self.shape[1]}'
        )
      np.divide(part, self._scale, out=out[done : done + len(part)])
      done += len(part)
    return out


class Column:
  """A column of the shard records, such as the names, indexed by row."""

  def __init__(
    self, offsets: ShardOffsets, read: Callable[[str], Sequence[Any]]
  ):
    self._offsets, self._read = offsets, read

  def __len__(self) -> int:
    return self._offsets.size

  def __getitem__(self, row: int | np.integer) -> Any:
    name, local_row = self._offsets.locate(int(row))
    return self._read(name)[local_row]
