"""Files from strangers: JSON, gzip, numpy's and TFDS', within bounds.

None of them runs code, and none takes more memory than its size allows: what a
file says of itself is compared with what it has before anything is allocated.
"""

import gzip
import json
import pathlib
import zipfile
import zlib
from typing import Any, NoReturn

import numpy as np

MAX_RECORD = 2**24  # bytes of a file that describes others
MAX_CAPTIONS = 2**28
# Deflate makes zeros 1,032 times smaller; features, a few times.
MAX_RATIO = 100
_SMALL = 2**26  # bytes that any archive may inflate to


def read_json(path: pathlib.Path, limit: int = MAX_RECORD) -> Any:
  """Reads a JSON file of at most `limit` bytes.

  Raises:
    ValueError: it is larger, nested too deep, has NaN or is not JSON.
    OSError: it cannot be read.
  """
  with path.open('rb') as file:
    return parse_json(_at_most(limit, file.read(limit + 1)))


def parse_json(content: bytes | str) -> Any:
  """Parses JSON.

  Raises:
    ValueError: it is nested too deep, has NaN or is not JSON.
  """
  try:
    return json.loads(content, parse_constant=_no_number)
  except RecursionError:
    raise ValueError('it is nested too deep') from None


def read_gzip(path: pathlib.Path, limit: int) -> bytes:
  """Inflates a file to at most `limit` bytes.

  Raises:
    ValueError: it is more, or the file is damaged.
    OSError: it cannot be read.
  """
  try:
    with gzip.open(path) as file:
      return _at_most(limit, file.read(limit + 1))
  except (EOFError, zlib.error) as error:
    raise ValueError(str(error)) from error


def _at_most(limit: int, content: bytes) -> bytes:
  if len(content) > limit:
    raise ValueError(f'it holds more than {limit} bytes')
  return content


def _no_number(constant: str) -> NoReturn:
  raise ValueError(f'{constant} is not a finite number')


def load_array(path: pathlib.Path, *, mapped: bool = False) -> np.ndarray:
  """Reads an .npy file; never a pickled object.

  Args:
    path: of the file.
    mapped: do not read it, but map it into memory.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: it is broken, smaller than it says, or holds pickled objects.
  """
  _check_there(path)
  try:
    # Mapped, it is refused where the file is smaller than its header says.
    array = np.load(path, allow_pickle=False, mmap_mode='r')
  except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
    raise _refused(str(path), error) from error
  if not isinstance(array, np.ndarray):
    raise ValueError(f'{path} is not what its name ends in')
  return array if mapped else np.array(array)


def array_names(path: pathlib.Path) -> list[str]:
  """The names of the arrays of an .npz file.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: it is not one.
  """
  _check_zip(path)
  try:
    with zipfile.ZipFile(path) as archive:
      return [name.removesuffix('.npy') for name in archive.namelist()]
  except (zipfile.BadZipFile, OSError, ValueError) as error:
    raise _refused(str(path), error) from error


def load_arrays(
  path: pathlib.Path, names: list[str] | None = None
) -> dict[str, np.ndarray]:
  """Reads arrays of an .npz file by name; None for all.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: it is broken, lacks a name, would take far more memory than its
      size or holds pickled objects.
  """
  _check_zip(path)
  names = array_names(path) if names is None else names
  size, arrays = path.stat().st_size, {}
  try:
    with zipfile.ZipFile(path) as archive:
      members = {info.filename: info for info in archive.infolist()}
      total = sum(info.file_size for info in members.values())
      if total > max(_SMALL, MAX_RATIO * size):
        raise ValueError(
          f'{path} cannot be read: its {size} bytes would inflate to {total}'
        )
      for name in names:
        with archive.open(members[f'{name}.npy']) as file:
          size = members[f'{name}.npy'].file_size
          try:
            arrays[name] = _read_member(file, size)
          except ValueError as error:
            raise _refused(f'{path}: {name!r}', error) from error
  except (zipfile.BadZipFile, EOFError, OSError, zlib.error) as error:
    raise _refused(str(path), error) from error
  except (NotImplementedError, RuntimeError) as error:  # encrypted, and such
    raise ValueError(f'{path} cannot be read: {error}') from error
  except KeyError as error:
    raise ValueError(f'{path} has no array {error}') from error
  return arrays


def _read_member(file: Any, size: int) -> np.ndarray:
  version = np.lib.format.read_magic(file)
  if version not in ((1, 0), (2, 0)):
    raise ValueError(f'an array has the format {version}')
  read_header = (
    np.lib.format.read_array_header_1_0
    if version == (1, 0)
    else np.lib.format.read_array_header_2_0
  )
  shape, fortran, dtype = read_header(file)
  if dtype.hasobject:
    raise ValueError('an array of objects')
  # Python's integers: numpy's product would overflow.
  count = 1
  for length in shape:
    count *= length
  if count < 0 or count * dtype.itemsize != size - file.tell():
    raise ValueError(f'an array of {list(shape)} {dtype} is not {size} bytes')
  content = bytearray(file.read())
  return np.ndarray(shape, dtype, content, order='F' if fortran else 'C')


def _check_there(path: pathlib.Path) -> None:
  if not path.is_file():
    raise FileNotFoundError(f'{path} is missing')


def _check_zip(path: pathlib.Path) -> None:
  _check_there(path)
  with path.open('rb') as file:
    if file.read(2) != b'PK':  # what is cut short begins with it all the same
      raise ValueError(f'{path} is not what its name ends in')


def _refused(what: str, error: Exception) -> ValueError:
  if 'pickle' in str(error) or 'object' in str(error):
    return ValueError(
      f'{what} holds pickled objects, which could run any code when read: '
      'save plain arrays (np.save of an array with a number or string dtype)'
    )
  return ValueError(f'{what} cannot be read: {error}')


def check_file_name(where: pathlib.Path, name: Any) -> None:
  """Raises ValueError for a name that leads out of its folder."""
  parts = pathlib.PurePath(name).parts if isinstance(name, str) else ('..',)
  if '..' in parts or not parts or parts[0] == '/' or '\0' in str(name):
    raise ValueError(f'{where} names a file outside of its folder: {name!r}')


def open_prepared(folder: pathlib.Path) -> Any:
  """Opens a TFDS data set.

  Raises:
    ValueError: it is none, or has features of another package: TFDS would
      import that.
  """
  import tensorflow_datasets as tfds  # Training from arrays needs none.

  try:
    check_features(read_json(pathlib.Path(folder, 'features.json')))
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
