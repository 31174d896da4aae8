"""Record sets: TFDS data sets stored as ArrayRecord files.

They are located and checked here before any record is read. Only regular files
are opened, because reading a pipe would wait for ever.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jaxmix.files import untrusted

INFO = 'dataset_info.json'
_THREADS = 16  # that open files: on a network drive each takes milliseconds


class Shards(NamedTuple):
  """The files of a split, in order.

  Attributes:
    split: its name in the data set.
    paths: of the files.
    lengths: number of records in each file.
  """

  split: str
  paths: tuple[pathlib.Path, ...]
  lengths: tuple[int, ...]

  def locate(self, index: int) -> str:
    """Returns the location of an example, for messages."""
    ends = np.cumsum(self.lengths)
    shard = int(np.searchsorted(ends, index, 'right'))
    record = index - int(ends[shard]) + self.lengths[shard]
    return (
      f'record {record} of {self.paths[shard]} (example {index} of '
      f'{self.split!r})'
    )


def find_root(data_dir: str) -> pathlib.Path:
  """Returns the folder of all prepared sets.

  Args:
    data_dir: the folder; empty for $TFDS_DATA_DIR, else
      ~/tensorflow_datasets.
  """
  root = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return pathlib.Path(root).expanduser()


def find_newest(
  root: pathlib.Path, name: str
) -> tuple[pathlib.Path | None, str]:
  """Finds the newest `<root>/<name>/<version>` that is stored as ArrayRecord.

  Returns:
    The folder or None, and in that case a remark about what is there instead,
    to end a message with; empty if nothing is there.

  Raises:
    ValueError: a `dataset_info.json` is not valid.
  """
  remark = ''
  if root.exists() and not root.is_dir():
    remark = f' ({root} is not a folder.)'
  for folder in sorted(root.glob(f'{name}/[0-9]*')):
    if not (folder / INFO).exists():
      remark = f' ({folder} has no {INFO}: its preparation was interrupted.)'
  for path in sorted(root.glob(f'{name}/[0-9]*/{INFO}'), reverse=True):
    info = read_json(path)
    if info.get('fileFormat') != 'array_record':
      remark = f' ({path.parent} is not stored as ArrayRecord.)'
    elif info.get('version') != path.parent.name:
      remark = f' ({path.parent} holds version {info.get("version")}.)'
    else:
      return path.parent, ''
  return None, remark


def prepare_again(folder: pathlib.Path) -> str:
  """Returns the advice for a data set that is not as it was prepared."""
  if any(part.startswith('jaxmix_') for part in folder.parts):
    how = 'set --config.data.source=ARCHIVE or --config.data.download=True'
  elif 'imagenet2012' in folder.parts:
    how = 'see docs/imagenet.md'
  else:
    how = "with tfds and file_format='array_record'"
  return f'remove {folder} and prepare it again ({how})'


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object of a record set.

  Raises:
    FileNotFoundError: the file is missing.
    ValueError: it is not a JSON object; names the file.
  """
  check_file(path)
  try:
    content = untrusted.read_json(path)
    if not isinstance(content, dict):
      raise ValueError('it is not a JSON object')
  except ValueError as error:
    raise ValueError(
      f'{path} is damaged ({error}): {prepare_again(path.parent)}'
    ) from error
  return content


def check_file(path: pathlib.Path) -> int:
  """Returns the size in bytes of a regular file.

  Raises:
    FileNotFoundError: the file is missing.
    ValueError: it is empty or not a regular file.
  """
  advice = prepare_again(path.parent)
  if not path.exists():
    raise FileNotFoundError(f'{path} is missing: {advice}')
  if not path.is_file():
    raise ValueError(f'{path} is not a regular file: {advice}')
  if not (size := path.stat().st_size):
    raise ValueError(f'{path} is empty: {advice}')
  return size


def open_set(folder: pathlib.Path) -> Any:
  """Opens a prepared data set; returns its TFDS builder.

  Raises:
    FileNotFoundError, ValueError: a description is missing or damaged.
  """
  for name in INFO, 'features.json':
    read_json(folder / name)
  with _description_errors(folder):
    return untrusted.open_prepared(folder)


@contextlib.contextmanager
def _description_errors(folder: pathlib.Path) -> Iterator[None]:
  try:
    yield
  except Exception as error:  # of protobuf, of unknown features, ...
    raise ValueError(
      f'tfds cannot read {INFO} and features.json of {folder} ({error!r}): '
      f'{prepare_again(folder)}'
    ) from error


def check_shards(builder: Any, split: str) -> Shards:
  """Checks that all files of a split exist and have the declared lengths.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: there is no such split, or a file is empty, not a regular file,
      not an ArrayRecord file, or has another number of records; names it.
  """
  folder = pathlib.Path(builder.data_dir)
  if split not in builder.info.splits:
    raise ValueError(
      f'{folder} has the splits {sorted(builder.info.splits)}, not {split!r}'
    )
  with _description_errors(folder):
    info = builder.info.splits[split]
    paths = tuple(pathlib.Path(path) for path in info.filepaths)
    lengths = tuple(info.shard_lengths)
  if len(paths) != len(lengths) or not sum(lengths):
    raise ValueError(
      f'{folder}/{INFO} declares {sum(lengths)} examples of {split!r} in '
      f'{len(lengths)} files of {len(paths)}: {prepare_again(folder)}'
    )
  for path in paths:
    check_file(path)
  with (
    ThreadPoolExecutor(_THREADS) as pool,
    tqdm(total=len(paths), desc=f'Opening {split!r}', delay=5) as bar,
  ):
    counts = pool.map(_count_records, paths)
    for path, count, length in zip(paths, counts, lengths, strict=True):
      if count != length:
        raise ValueError(
          f'{path} has {count} records, but {INFO} declares {length}: '
          f'{prepare_again(folder)}'
        )
      bar.update()
  return Shards(split, paths, lengths)


def _count_records(path: pathlib.Path) -> int:
  from array_record.python import array_record_module  # pyright: ignore

  try:
    reader = array_record_module.ArrayRecordReader(str(path))
    count = reader.num_records()
    reader.close()  # raises errors that the reader has not reported before
  except RuntimeError as error:
    reason = str(error) or 'it has no index'
    raise ValueError(
      f'{path} is not a complete ArrayRecord file ({reason}): '
      f'{prepare_again(path.parent)}'
    ) from error
  return count


def files_fingerprint(folder: pathlib.Path, shards: Shards) -> str:
  """Returns a sha256 of the names and sizes of a split's files and of INFO.

  For data sets that are too large to be read before a run.
  """
  files = [[path.name, path.stat().st_size] for path in shards.paths]
  info = (folder / INFO).read_bytes()
  return hashlib.sha256(json.dumps(files).encode() + info).hexdigest()
