"""Examples that are read one by one, whatever they lie in."""

import dataclasses
import hashlib
import operator
from typing import Any, Protocol

import numpy as np


class Source(Protocol):
  """Random access to `{'image': uint8 [H, W, C], 'label': int32 []}`."""

  @property
  def digest(self) -> str | None:
    """A sha256 that names the examples."""
    ...

  def __len__(self) -> int:
    """Number of examples."""
    ...

  def __getitem__(self, index: int, /) -> dict[str, Any]:
    """The example at `index`; negative ones count from the end."""
    ...

  def __getitems__(self, indices: Any, /) -> list[dict[str, Any]]:
    """The examples at `indices`, in that order."""
    ...


@dataclasses.dataclass(frozen=True)
class ArraySource:
  """A `Source` over arrays in memory, e.g. what `load` returns."""

  arrays: dict[str, np.ndarray]

  @property
  def digest(self) -> str:
    """A sha256 of the examples."""
    whole = hashlib.sha256()
    for name, array in sorted(self.arrays.items()):
      whole.update(f'{name} {array.dtype} {array.shape}'.encode())
      whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()

  def __len__(self) -> int:
    return len(self.arrays['label'])

  def __getitem__(self, index: int, /) -> dict[str, Any]:
    index = operator.index(index)
    return {name: array[index] for name, array in self.arrays.items()}

  def __getitems__(self, indices: Any, /) -> list[dict[str, Any]]:
    return [self[i] for i in indices]
