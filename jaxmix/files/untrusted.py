"""Readers for untrusted files: JSON, gzip, NumPy arrays and TFDS folders.

No reader runs code from a file, and none allocates more memory than the size
of the file allows: sizes that a file declares are compared with the bytes that
it has before anything is allocated.
"""

import gzip
import json
import math
import os
import pathlib
import stat
import zipfile
import zlib
from typing import Any, NoReturn

import numpy as np

MAX_RECORD = 2**24  # bytes of a file that describes other files
MAX_CAPTIONS = 2**28  # bytes of a JSON file of captions
# Deflate shrinks zeros by a factor of 1,032, but features only by a few.
MAX_RATIO = 100
_SMALL = 2**26  # bytes that any archive may inflate to


def read_json(
  path: pathlib.Path,
  max_bytes: int = MAX_RECORD,
  max_depth: int | None = None,
  *,
  unique_keys: bool = False,
) -> Any:
  """Reads a JSON file.

  Args:
    path: of the file.
    max_bytes: the largest size that is read.
    max_depth: the deepest nesting of arrays and objects; None for the limit of
      Python's parser.
    unique_keys: whether a key that occurs twice in an object is an error.

  Raises:
    ValueError: the file is larger or nested deeper, has NaN or an infinite
      number, is not JSON or is not a regular file. The message does not name
      the file.
    OSError: the file cannot be read.
  """
  # Opening a pipe would otherwise wait for a writer.
  descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
  with open(descriptor, 'rb') as file:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
      raise ValueError('it is not a regular file')
    content = _check_size(max_bytes, file.read(max_bytes + 1))
  return parse_json(content, max_depth, unique_keys=unique_keys)


def parse_json(
  content: bytes | str,
  max_depth: int | None = None,
  *,
  unique_keys: bool = False,
) -> Any:
  """Parses JSON; arguments and errors as for `read_json`.

  >>> parse_json('{"a": [1, 2.5]}', max_depth=2)
  {'a': [1, 2.5]}
  """
  try:
    value = json.loads(
      content,
      parse_constant=_reject_constant,
      parse_float=_finite_float,
      object_pairs_hook=_unique if unique_keys else None,
    )
  except RecursionError:
    raise ValueError('it is nested too deep') from None
  if max_depth is not None:
    _check_depth(value, max_depth)
  return value


def _reject_constant(constant: str) -> NoReturn:
  raise ValueError(f'{constant} is not a finite number')


def _finite_float(text: str) -> float:
  value = float(text)
  if not math.isfinite(value):
    _reject_constant(text)
  return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  fields = {}
  for key, value in pairs:
    if key in fields:
      raise ValueError(f'the key {key!r} occurs twice')
    fields[key] = value
  return fields


def _check_depth(value: Any, max_depth: int) -> None:
  level = [value]
  for _ in range(max_depth + 1):
    containers = [x for x in level if isinstance(x, dict | list)]
    if not containers:
      return
    level = [
      item
      for container in containers
      for item in (
        container.values() if isinstance(container, dict) else container
      )
    ]
  raise ValueError(f'it is nested deeper than {max_depth} levels')


def read_gzip(path: pathlib.Path, max_bytes: int) -> bytes:
  """Returns the decompressed content of a gzip file.

  Raises:
    ValueError: it has more than `max_bytes` bytes, or the file is damaged.
    OSError: the file cannot be read.
  """
  try:
    with gzip.open(path) as file:
      return _check_size(max_bytes, file.read(max_bytes + 1))
  except (EOFError, zlib.error) as error:
    raise ValueError(str(error)) from error


def _check_size(max_bytes: int, content: bytes) -> bytes:
  if len(content) > max_bytes:
    raise ValueError(f'it has more than {max_bytes} bytes')
  return content


def load_array(path: pathlib.Path, *, mapped: bool = False) -> np.ndarray:
  """Reads an .npy file without unpickling objects.

  Args:
    path: of the file.
    mapped: whether to map the file into memory instead of reading it.

  Raises:
    FileNotFoundError: the file is missing.
    ValueError: the file is damaged, smaller than its header says, or holds
      pickled objects.
  """
  _check_exists(path)
  try:
    # Mapping fails where the file is smaller than its header says.
    array = np.load(path, allow_pickle=False, mmap_mode='r')
  except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
    raise _read_error(str(path), error) from error
  if not isinstance(array, np.ndarray):
    raise ValueError(f'{path} is not an .npy file')
  return array if mapped else np.array(array)


def array_names(path: pathlib.Path) -> list[str]:
  """Returns the names of the arrays of an .npz file.

  Raises:
    FileNotFoundError: the file is missing.
    ValueError: the file is not an .npz archive.
  """
  _check_zip(path)
  try:
    with zipfile.ZipFile(path) as archive:
      return [name.removesuffix('.npy') for name in archive.namelist()]
  except (zipfile.BadZipFile, OSError, ValueError) as error:
    raise _read_error(str(path), error) from error


def load_arrays(
  path: pathlib.Path, names: list[str] | None = None
) -> dict[str, np.ndarray]:
  """Reads arrays of an .npz file by name; None for all.

  Raises:
    FileNotFoundError: the file is missing.
    ValueError: the file is damaged, lacks a name, would inflate to far more
      than its size, or holds pickled objects.
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
            raise _read_error(f'{path}: {name!r}', error) from error
  except (zipfile.BadZipFile, EOFError, OSError, zlib.error) as error:
    raise _read_error(str(path), error) from error
  except (NotImplementedError, RuntimeError) as error:  # e.g. encrypted
    raise ValueError(f'{path} cannot be read: {error}') from error
  except KeyError as error:
    name = error.args[0].removesuffix('.npy')
    raise ValueError(f'{path} has no array {name!r}') from error
  return arrays


def _read_member(file: Any, size: int) -> np.ndarray:
  version = np.lib.format.read_magic(file)
  if version not in ((1, 0), (2, 0)):
    raise ValueError(f'the array format {version} is not supported')
  read_header = (
    np.lib.format.read_array_header_1_0
    if version == (1, 0)
    else np.lib.format.read_array_header_2_0
  )
  shape, fortran, dtype = read_header(file)
  if dtype.hasobject:
    raise ValueError('it is an array of objects')
  # Python integers, because NumPy's product could overflow.
  count = 1
  for length in shape:
    count *= length
  if count < 0 or count * dtype.itemsize != size - file.tell():
    raise ValueError(
      f'the header declares {dtype} {list(shape)}, which does not fit the '
      f'{size} bytes'
    )
  content = bytearray(file.read())
  return np.ndarray(shape, dtype, content, order='F' if fortran else 'C')


def _check_exists(path: pathlib.Path) -> None:
  if not path.is_file():
    raise FileNotFoundError(f'{path} is missing')


def _check_zip(path: pathlib.Path) -> None:
  _check_exists(path)
  with path.open('rb') as file:
    if file.read(2) != b'PK':  # a truncated archive still begins with it
      raise ValueError(f'{path} is not an .npz file')


def _read_error(name: str, error: Exception) -> ValueError:
  if 'pickle' in str(error) or 'object' in str(error):
    return ValueError(
      f'{name} holds pickled objects, which could run any code when read: '
      'save plain arrays (np.save of an array with a number or string dtype)'
    )
  return ValueError(f'{name} cannot be read: {error}')


def check_file_name(where: pathlib.Path | str, name: Any) -> None:
  """Raises ValueError for a file name that leads out of its folder.

  Args:
    where: the file that names it, for the message.
    name: a relative path.
  """
  parts = pathlib.PurePath(name).parts if isinstance(name, str) else ('..',)
  if '..' in parts or not parts or parts[0] == '/' or '\0' in str(name):
    raise ValueError(f'{where} names a file outside of its folder: {name!r}')


def open_prepared(folder: pathlib.Path) -> Any:
  """Opens the folder of a prepared TFDS data set; returns its builder.

  Raises:
    ValueError: the folder is not a TFDS data set, or its features are of
      another package, which TFDS would import.
  """
  # Imported here, because training from arrays does not need it.
  import tensorflow_datasets as tfds

  try:
    check_feature_classes(read_json(pathlib.Path(folder, 'features.json')))
    return tfds.builder_from_directory(folder)
  except Exception as error:  # errors of protobuf and tfds share no base class
    raise ValueError(f'{folder} is not a TFDS data set: {error}') from error


def check_feature_classes(described: Any) -> None:
  """Raises ValueError if features.json names a class from outside TFDS."""
  if isinstance(described, dict):
    for key, value in described.items():
      if key in ('type', 'pythonClassName', 'python_class_name'):
        if not str(value).startswith('tensorflow_datasets.'):
          raise ValueError(f'features.json names the class {value!r}')
      check_feature_classes(value)
  elif isinstance(described, list):
    for value in described:
      check_feature_classes(value)
