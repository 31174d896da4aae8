"""Rows of many files as those of one array, read when asked for.

All that is kept of N rows in S shards is S numbers: a gallery of 100 million
images is opened as fast as one of ten. Row numbers are 64 bits.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxretrieval.index import image_store


class Layout(NamedTuple):
  """Which shard has which rows.

  Attributes:
    names: [S] of the shards, in order.
    ends: int64 [S], the row after the last of each.

  >>> layout = Layout.of({'a': 2, 'b': 0, 'c': 3})
  >>> len(layout.ends), layout.size, layout.place(2)
  (3, 5, ('c', 0))
  >>> layout.pieces(1, 4)
  [('a', 1, 2), ('c', 0, 2)]
  """

  names: list[str]
  ends: np.ndarray

  @classmethod
  def of(cls, counts: Mapping[str, int]) -> 'Layout':
    """Lays shards of so many rows one after the other."""
    return cls(list(counts), np.cumsum([*counts.values()], dtype=np.int64))

  @property
  def size(self) -> int:
    """N."""
    return int(self.ends[-1]) if len(self.ends) else 0

  def place(self, row: int) -> tuple[str, int]:
    """The shard of a row, and which row of the shard it is.

    Raises:
      IndexError: there is no such row.
    """
    if not 0 <= row < self.size:
      raise IndexError(f'row {row} of {self.size}')
    shard = int(np.searchsorted(self.ends, row, 'right'))
    return self.names[shard], row - self._begin(shard)

  def pieces(self, start: int, stop: int) -> list[tuple[str, int, int]]:
    """The shards of rows `start` to `stop`, each with its own rows of them."""
    found = []
    first = int(np.searchsorted(self.ends, start, 'right'))
    for shard in range(first, len(self.ends)):
      begin, end = self._begin(shard), int(self.ends[shard])
      if begin >= stop:
        break
      piece = max(start, begin) - begin, min(stop, end) - begin
      if piece[0] < piece[1]:
        found.append((self.names[shard], *piece))
    return found

  def _begin(self, shard: int) -> int:
    return int(self.ends[shard - 1]) if shard else 0


class Features:
  """Features float32 [N, D] in a folder of shards, divided by `scale`.

  Slices are read from the disk; nothing of them is kept.
  """

  dtype = np.dtype(np.float32)

  def __init__(
    self, folder: pathlib.Path, layout: Layout, dim: int, scale: float
  ):
    self.shape = layout.size, dim
    self._folder, self._layout = folder, layout
    self._scale = np.float32(scale)

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, rows: slice) -> np.ndarray:
    start, stop, step = rows.indices(len(self))
    if step != 1:
      raise ValueError(f'step {step}: rows are read one after the other')
    out = np.empty((max(stop - start, 0), self.shape[1]), np.float32)
    done = 0
    for name, first, last in self._layout.pieces(start, stop):
      path, _ = image_store.paths(self._folder, name)
      found = image_store.read_features(path, first, last)
      if found.shape[1] != self.shape[1]:
        raise ValueError(
          f'{path} has features of dim {found.shape[1]}, the others of '
          f'{self.shape[1]}'
        )
      np.divide(found, self._scale, out=out[done : done + len(found)])
      done += len(found)
    return out


class Column:
  """What each shard lists of its rows, names for one; by row."""

  def __init__(self, layout: Layout, read: Callable[[str], Sequence[Any]]):
    self._layout, self._read = layout, read

  def __len__(self) -> int:
    return self._layout.size

  def __getitem__(self, row: int | np.integer) -> Any:
    name, place = self._layout.place(int(row))
    return self._read(name)[place]
