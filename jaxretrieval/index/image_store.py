"""Image store: features of images without captions, on disk, in shards.

An image store is one folder. `shards/` has two files for each shard: NAME.npy,
the features float16 [n, D], and NAME.json, the names and ids of the images.
`gallery.json` lists the shards and names the encoder. No file and no process
holds an entry for every image. Processes write shards independently of each
other, and each shard atomically.
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


class ImageStore(NamedTuple):
  """Content of `gallery.json`.

  Attributes:
    encoder: id of the image encoder.
    namespace: namespace of the image ids, see `captions`.
    licence: licence of the images, one line.
    shards: names of the shards, in the order of their rows.
  """

  encoder: str
  namespace: str
  licence: str
  shards: list[str]


class ShardRecord(NamedTuple):
  """Content of `shards/NAME.json`, the record of n images.

  Attributes:
    encoder: as in `ImageStore`.
    source: fingerprint of the images that the shard was made from; a shard with
      another fingerprint is encoded again.
    names: [n] names of the images.
    ids: [n] ids of the images, 63 bits.
    bad: the reason why an image cannot be used, by name.
    sha256: sha256 of `shards/NAME.npy`.
  """

  encoder: str
  source: str
  names: list[str]
  ids: list[int]
  bad: dict[str, str]
  sha256: str


def start(folder: pathlib.Path, store: ImageStore) -> None:
  """Creates an image store, or resumes it; its list of shards may change.

  Raises:
    ValueError: the existing store differs in encoder, namespace or licence.
  """
  path = folder / RECORD
  existing = read_info(folder) if path.exists() else None
  if existing:
    differences = [
      field
      for field in ('encoder', 'namespace', 'licence')
      if getattr(existing, field) != getattr(store, field)
    ]
    if differences:
      raise ValueError(
        f'{folder} is an image store with another {", ".join(differences)}: '
        'choose another --out, or remove that folder to start again'
      )
  (folder / SHARDS).mkdir(parents=True, exist_ok=True)
  if existing != store:
    content = {'version': VERSION} | store._asdict()
    with atomic.open_atomic(path) as file:
      file.write(json.dumps(content, indent=1).encode())


def read_info(folder: pathlib.Path) -> ImageStore:
  """Reads `gallery.json`.

  Raises:
    FileNotFoundError: `folder` is not an image store.
    ValueError: the file is damaged, or has another version.
  """
  path = folder / RECORD
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing, so {folder} is not an image store: make one with '
      'python -m jaxretrieval.extract.gallery'
    )
  try:
    content = untrusted.read_json(path, untrusted.MAX_CAPTIONS)
    version = content.pop('version')
    info = ImageStore(**content)
    for name in info.shards:
      check_shard_name(path, name)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(f'{path} is damaged: {error!r}') from error
  if version != VERSION:
    raise ValueError(
      f'{path} has version {version}, but this program reads {VERSION}'
    )
  return info


def save(
  folder: pathlib.Path, name: str, record: ShardRecord, features: np.ndarray
) -> None:
  """Writes a shard and its record, with `record.sha256` filled in.

  The record is written last: a shard without a record counts as missing. Files
  are not synced to disk: a file that a power cut truncated has another sha256,
  and its shard is encoded again.

  Args:
    folder: folder of the image store.
    name: name of the shard.
    record: record of n images.
    features: float16 [n, D].
  """
  path, record_path = paths(folder, name)
  with atomic.open_atomic(path) as file:
    np.save(file, features, allow_pickle=False)
    file.flush()
    # Hash the temporary file: another process may write the same shard.
    record = record._replace(
      sha256=atomic.file_fingerprint(pathlib.Path(file.name))
    )
  with atomic.open_atomic(record_path) as file:
    file.write(json.dumps(record._asdict()).encode())


def read_record(path: pathlib.Path) -> ShardRecord:
  """Reads `shards/NAME.json`.

  Raises:
    OSError: the file is missing or cannot be read.
    ValueError: it is damaged.
  """
  try:
    record = ShardRecord(**untrusted.read_json(path, untrusted.MAX_CAPTIONS))
    if len(record.names) != len(record.ids):
      raise ValueError(
        f'{len(record.names)} names and {len(record.ids)} ids must be as many'
      )
  except (ValueError, TypeError) as error:
    raise ValueError(f'{path} is damaged: {error!r}') from error
  return record


def load(folder: pathlib.Path, name: str) -> ShardRecord | None:
  """Returns the record of a shard; None if it is missing or damaged."""
  path, record_path = paths(folder, name)
  try:
    record = read_record(record_path)
    return record if atomic.file_fingerprint(path) == record.sha256 else None
  except (FileNotFoundError, ValueError):
    return None


def read_features(path: pathlib.Path, start: int, stop: int) -> np.ndarray:
  """Reads rows `start` to `stop` of a shard's features, float16.

  Raises:
    FileNotFoundError: the file is missing.
    ValueError: it does not contain these rows.
  """
  array = untrusted.load_array(path, mapped=True)
  if array.ndim != 2 or array.dtype != np.float16 or stop > len(array):
    raise ValueError(
      f'{path} is {array.dtype} {list(array.shape)}; it must be float16 [n, D] '
      f'with {stop} rows or more: run jaxretrieval.extract.gallery again'
    )
  return np.array(array[start:stop])


def missing(folder: pathlib.Path, shards: list[str]) -> list[str]:
  """Returns the shards that have no record, from one directory listing."""
  files = set(os.listdir(folder / SHARDS))
  return [name for name in shards if f'{name}.json' not in files]


def paths(folder: pathlib.Path, name: str) -> tuple[pathlib.Path, pathlib.Path]:
  """Returns the paths of a shard's features and of its record."""
  shards = folder / SHARDS
  return shards / f'{name}.npy', shards / f'{name}.json'


def check_shard_name(where: pathlib.Path, name: Any) -> None:
  """Raises ValueError if a shard would be outside of `shards/`."""
  untrusted.check_file_name(where, name)
  if '/' in name:
    raise ValueError(f'{where} names the shard {name!r}, which contains a /')
