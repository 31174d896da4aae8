"""Galleries on disk: features of pictures without captions, in shards.

A gallery is one folder. `shards/` has two files for each shard: NAME.npy,
features float16 [n, D], and NAME.json, which pictures they are of. What is said
of the whole, `gallery.json`, is the names of the shards and who made them: no
file and no process ever holds something of every picture. Shards are written by
processes that know nothing of each other, each whole or not at all.
"""

import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from jaxmix.files import atomic, untrusted

VERSION = 1
RECORD = 'gallery.json'
SHARDS = 'shards'


class Gallery(NamedTuple):
  """`gallery.json`.

  Attributes:
    encoder: id of the image encoder.
    namespace: what image ids count, see `captions`.
    licence: of the pictures, one line.
    shards: their names, in the order of their rows.
  """

  encoder: str
  namespace: str
  licence: str
  shards: list[str]


class Record(NamedTuple):
  """`shards/NAME.json`; n pictures.

  Attributes:
    encoder: as in `Gallery`.
    source: what the shard was made from; another one is another shard.
    names: [n] of the pictures.
    ids: [n], 63 bits.
    bad: of each picture that cannot be used, by name, why.
    sha256: of `shards/NAME.npy`.
  """

  encoder: str
  source: str
  names: list[str]
  ids: list[int]
  bad: dict[str, str]
  sha256: str


def start(folder: pathlib.Path, wanted: Gallery) -> None:
  """Begins a gallery, or goes on with it; the list of its shards may change.

  Raises:
    ValueError: what is there differs in its encoder, namespace or licence.
  """
  path = folder / RECORD
  there = read_info(folder) if path.exists() else None
  if there:
    differ = [
      field
      for field in ('encoder', 'namespace', 'licence')
      if getattr(there, field) != getattr(wanted, field)
    ]
    if differ:
      raise ValueError(
        f'{folder} belongs to a gallery that differs in: {", ".join(differ)}. '
        'Give this one another --out, or remove that folder to begin anew'
      )
  (folder / SHARDS).mkdir(parents=True, exist_ok=True)
  if there != wanted:
    described = {'version': VERSION} | wanted._asdict()
    with atomic.open_atomic(path) as file:
      file.write(json.dumps(described, indent=1).encode())


def read_info(folder: pathlib.Path) -> Gallery:
  """Reads `gallery.json`.

  Raises:
    FileNotFoundError: there is no gallery.
    ValueError: the file is broken, or of another version.
  """
  path = folder / RECORD
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing: {folder} is no gallery; python -m '
      'jaxretrieval.extract.gallery makes one'
    )
  try:
    found = untrusted.read_json(path, untrusted.MAX_CAPTIONS)
    version = found.pop('version')
    info = Gallery(**found)
    for name in info.shards:
      check_shard_name(path, name)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f'{path} is broken: {error!r}') from error
  if version != VERSION:
    raise ValueError(f'{path}: version {version}, this program reads {VERSION}')
  return info


def save(
  folder: pathlib.Path, name: str, record: Record, features: np.ndarray
) -> None:
  """Writes a shard; `record.sha256` is filled in.

  The record last: a shard without one is not there. Not forced to the disk:
  what a power cut leaves half-written has not its sha256, and is done again.

  Args:
    folder: of the gallery.
    name: of the shard.
    record: of n pictures.
    features: float16 [n, D].
  """
  path, record_path = paths(folder, name)
  with atomic.open_atomic(path) as file:
    np.save(file, features, allow_pickle=False)
    file.flush()
    # Of the file written here: another process may write the same shard.
    record = record._replace(
      sha256=atomic.file_fingerprint(pathlib.Path(file.name))
    )
  with atomic.open_atomic(record_path) as file:
    file.write(json.dumps(record._asdict()).encode())


def read_record(path: pathlib.Path) -> Record:
  """Reads `shards/NAME.json`.

  Raises:
    OSError: it cannot be read, or is not there.
    ValueError: it is broken.
  """
  try:
    record = Record(**untrusted.read_json(path, untrusted.MAX_CAPTIONS))
    if len(record.names) != len(record.ids):
      raise ValueError('as many ids as names are needed')
  except (ValueError, TypeError) as error:
    raise ValueError(f'{path} is broken: {error!r}') from error
  return record


def load(folder: pathlib.Path, name: str) -> Record | None:
  """The record of a shard, after its sha256; None if there is no whole one."""
  path, record_path = paths(folder, name)
  try:
    record = read_record(record_path)
    return record if atomic.file_fingerprint(path) == record.sha256 else None
  except (FileNotFoundError, ValueError):
    return None


def read_features(path: pathlib.Path, start: int, stop: int) -> np.ndarray:
  """Rows `start` to `stop` of a shard's features, float16; no more are read.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: it does not hold them.
  """
  array = untrusted.load_array(path, mapped=True)
  if array.ndim != 2 or array.dtype != np.float16 or stop > len(array):
    raise ValueError(
      f'{path} is {array.dtype} {list(array.shape)}, expected float16 [n, D] '
      f'with {stop} rows or more: make it again'
    )
  return np.array(array[start:stop])


def missing(folder: pathlib.Path, shards: list[str]) -> list[str]:
  """The shards that have no record yet, by one look at the folder."""
  there = set(os.listdir(folder / SHARDS))
  return [name for name in shards if f'{name}.json' not in there]


def paths(folder: pathlib.Path, name: str) -> tuple[pathlib.Path, pathlib.Path]:
  """Of a shard's features and of its record."""
  place = folder / SHARDS
  return place / f'{name}.npy', place / f'{name}.json'


def check_shard_name(where: pathlib.Path, name: Any) -> None:
  """Raises ValueError for a shard that would not lie in `shards/`."""
  untrusted.check_file_name(where, name)
  if '/' in name:
    raise ValueError(f'{where} names the shard {name!r}: it may have no /')
