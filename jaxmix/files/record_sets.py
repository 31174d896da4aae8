"""The files of a prepared TFDS data set, looked at before they are read.

What is no plain file is refused, never opened: reading a pipe waits for ever.
"""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from array_record.python import (  # comes with grain
  array_record_module,  # pyright: ignore
)
from tqdm import tqdm

from jaxmix.classification.datasets import inputs

INFO = 'dataset_info.json'
_READERS = 16  # threads that open files: on a network each takes milliseconds


class Shards(NamedTuple):
  """The files of a split, in order.

  Attributes:
    split: as the data set calls it.
    paths: of the files.
    lengths: the number of records in each.
  """

  split: str
  paths: tuple[pathlib.Path, ...]
  lengths: tuple[int, ...]

  def place(self, index: int) -> str:
    """Where an example lies, for messages."""
    ends = np.cumsum(self.lengths)
    shard = int(np.searchsorted(ends, index, 'right'))
    record = index - int(ends[shard]) + self.lengths[shard]
    return (
      f'record {record} of {self.paths[shard]} (example {index} of '
      f'{self.split!r})'
    )


def find_newest(
  root: pathlib.Path, name: str
) -> tuple[pathlib.Path | None, str]:
  """Looks for `<root>/<name>/<version>`, stored as ArrayRecord.

  Returns:
    The folder of the newest version or None, and then a remark on what is there
    instead, for the end of a message; empty if nothing is.

  Raises:
    ValueError: a `dataset_info.json` is not one.
  """
  remark = ''
  if root.exists() and not root.is_dir():
    remark = f' ({root} is not a folder.)'
  for folder in sorted(root.glob(f'{name}/[0-9]*')):
    if not (folder / INFO).exists():
      remark = f' ({folder} has no {INFO}: its preparation did not end.)'
  found = sorted(root.glob(f'{name}/[0-9]*/{INFO}'), reverse=True)
  for path in found:
    about = read_json(path)
    if about.get('fileFormat') != 'array_record':
      remark = f' ({path.parent} is not ArrayRecord.)'
    elif about.get('version') != path.parent.name:
      remark = f' ({path.parent} holds version {about.get("version")}.)'
    else:
      return path.parent, ''
  return None, remark


def again(folder: pathlib.Path) -> str:
  """What to do about a set that is not as it was prepared."""
  if any(part.startswith('jaxmix_') for part in folder.parts):
    how = 'set --config.data.source=ARCHIVE or --config.data.download=True'
  elif 'imagenet2012' in folder.parts:
    how = 'see docs/imagenet.md'
  else:
    how = "tfds does it, with file_format='array_record'"
  return f'remove {folder} and prepare it again ({how})'


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object.

  Raises:
    ValueError: there is none; names the file.
  """
  check_file(path)
  try:
    return inputs.read_json(path)
  except ValueError as error:
    raise ValueError(f'{error}: {again(path.parent)}') from error


def check_file(path: pathlib.Path) -> int:
  """Returns the size of a plain file in bytes.

  Raises:
    FileNotFoundError: it is missing.
    ValueError: it is empty or no plain file.
  """
  todo = again(path.parent)
  if not path.exists():
    raise FileNotFoundError(f'{path} is missing: {todo}')
  if not path.is_file():
    raise ValueError(f'{path} is no plain file: {todo}')
  if not (size := path.stat().st_size):
    raise ValueError(f'{path} is empty: {todo}')
  return size


def open_set(folder: pathlib.Path) -> Any:
  """Opens a prepared data set: its TFDS builder.

  Raises:
    FileNotFoundError, ValueError: it lacks a description, or one is broken.
  """
  for name in INFO, 'features.json':
    read_json(folder / name)
  with _told(folder):
    return inputs.open_prepared(folder)


@contextlib.contextmanager
def _told(folder: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except Exception as error:  # of protobuf, of what features are called, ...
    raise ValueError(
      f'{folder} is described by {INFO} and features.json in a way that tfds '
      f'cannot read ({error!r}): {again(folder)}'
    ) from error


def check_shards(builder: Any, split: str) -> Shards:
  """Checks that all files of a split are there, with as many records as told.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: there is no such split, or a file is empty, no plain file, no
      ArrayRecord, or has another number of records; names it.
  """
  folder = pathlib.Path(builder.data_dir)
  if split not in builder.info.splits:
    raise ValueError(
      f'{folder} has the splits {sorted(builder.info.splits)}, not {split!r}'
    )
  with _told(folder):
    told = builder.info.splits[split]
    paths = tuple(pathlib.Path(path) for path in told.filepaths)
    lengths = tuple(told.shard_lengths)
  if len(paths) != len(lengths) or not sum(lengths):
    raise ValueError(
      f'{folder}/{INFO}: {split!r} has {sum(lengths)} examples in '
      f'{len(lengths)} files of {len(paths)}: {again(folder)}'
    )
  for path in paths:
    check_file(path)
  with (
    ThreadPoolExecutor(_READERS) as pool,
    tqdm(total=len(paths), desc=f'Opening {split!r}', delay=5) as bar,
  ):
    counts = pool.map(_count, paths)
    for path, count, length in zip(paths, counts, lengths, strict=True):
      if count != length:
        raise ValueError(
          f'{path} has {count} records, {INFO} says {length}: {again(folder)}'
        )
      bar.update()
  return Shards(split, paths, lengths)


def _count(path: pathlib.Path) -> int:
  try:
    reader = array_record_module.ArrayRecordReader(str(path))
    count = reader.num_records()
    reader.close()  # raises what was wrong before, without a word
  except RuntimeError as error:
    why = str(error) or 'it has no index'
    raise ValueError(
      f'{path} is no whole ArrayRecord file ({why}): {again(path.parent)}'
    ) from error
  return count


def names_digest(folder: pathlib.Path, shards: Shards) -> str:
  """A sha256 of what files of a split are called, of their sizes, and of INFO.

  For sets too large to be read whole before a run.
  """
  files = [[path.name, path.stat().st_size] for path in shards.paths]
  about = (folder / INFO).read_bytes()
  return hashlib.sha256(json.dumps(files).encode() + about).hexdigest()
