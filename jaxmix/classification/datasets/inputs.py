"""Descriptions of data sets, from strangers: read without running anything."""

import json
import pathlib
import tarfile
from typing import Any, NoReturn

MAX_BYTES = 2**24


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object of at most `MAX_BYTES`.

  Raises:
    ValueError: it is larger, nested too deep, has NaN or is no object.
    OSError: it cannot be read.
  """
  with path.open('rb') as file:
    content = file.read(MAX_BYTES + 1)
  try:
    if len(content) > MAX_BYTES:
      raise ValueError(f'it holds more than {MAX_BYTES} bytes')
    read = json.loads(content, parse_constant=_no_number)
    if not isinstance(read, dict):
      raise ValueError('it is not an object')
  except RecursionError:
    raise ValueError(f'{path} is broken: it is nested too deep') from None
  except ValueError as error:
    raise ValueError(f'{path} is broken: {error}') from error
  return read


class Bounded:
  """A stream that ends in an error after so many bytes.

  A small file can inflate to anything, and tarfile reads a header of any size
  into memory.
  """

  def __init__(self, stream: Any, limit: int, label: str):
    self._label = label
    self._stream, self._limit, self._left = stream, limit, limit

  def read(self, size: int) -> bytes:
    """Reads up to `size` bytes; raises ValueError past the limit."""
    content = self._stream.read(min(size, self._left + 1))
    self._left -= len(content)
    if self._left < 0:
      raise ValueError(
        f'{self._label}: more than {self._limit} bytes are packed in it'
      )
    return content


class SmallHeader(tarfile.TarInfo):
  """A member of an archive, for `tarfile.open`, whose long name is short.

  tarfile reads names and comments of any size into memory.
  """

  @classmethod
  def frombuf(cls, buf: Any, encoding: str, errors: str) -> 'SmallHeader':
    """Raises `tarfile.ReadError` for a header of more than a megabyte."""
    member = super().frombuf(buf, encoding, errors)
    data = (*tarfile.REGULAR_TYPES, tarfile.GNUTYPE_SPARSE)
    if member.type not in data and member.size > 2**20:
      raise tarfile.ReadError(f'it has a header of {member.size} bytes')
    return member


def _no_number(constant: str) -> NoReturn:
  raise ValueError(f'{constant} is not a finite number')


def check_file_name(where: pathlib.Path, name: str) -> None:
  """Raises ValueError for a name that is not that of a file in the folder."""
  if name in ('', '.', '..') or '/' in name or '\0' in name:
    raise ValueError(f'{where} names a file outside of its folder: {name!r}')


def open_prepared(folder: pathlib.Path) -> Any:
  """Opens a TFDS data set.

  Raises:
    ValueError: it is none, or has features of another package: TFDS would
      import that.
  """
  import tensorflow_datasets as tfds  # The digits need none.

  try:
    check_features(read_json(folder / 'features.json'))
    return tfds.builder_from_directory(folder)
  except Exception as error:  # protobuf's and tfds' own have no common base
    raise ValueError(f'{folder} is no TFDS data set: {error}') from error


def check_features(described: Any) -> None:
  """Raises ValueError where features.json names a class that is not TFDS'."""
  if isinstance(described, dict):
    for key, value in described.items():
      if key in ('type', 'pythonClassName', 'python_class_name'):
        if not str(value).startswith('tensorflow_datasets.'):
          raise ValueError(f'features.json names the class {value!r}')
      check_features(value)
  elif isinstance(described, list):
    for value in described:
      check_features(value)
