"""Index files: images that can be searched with sentences.

An index is one folder. It holds everything that a search needs except for the
text encoder, whose id it records: `gallery.npy`, image features divided by the
head's scale, float32 [N, D]; `ids.npy` and `names.json`; `head/`, the exported
head; `gallery.faiss`, an exact FAISS index, if faiss is installed (pip install
faiss-cpu); and `index.json`: encoders, scale, licence, counts and the sha256 of
each file.

The index of an image store has its files as hard links in `shards/` (or copies,
on another file system) instead of `gallery.npy`, `ids.npy` and `names.json`.
They are searched from disk; no file or list of all images is made.
"""

import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from jaxmix.files import atomic, untrusted
from jaxretrieval.feature_sets import feature_set
from jaxretrieval.index import (
  exported_head,
  image_store,
  sharded,
  sharded_array,
)

VERSION = 1
SHARDED = 2  # version of the index of an image store
RECORD = 'index.json'
GALLERY = 'gallery.npy'
FAISS = 'gallery.faiss'
HEAD = ('arrays.npz', 'export.json')


class Index(NamedTuple):
  """An index of N images.

  Attributes:
    features: float32 [N, D], divided by `head.scale`; in memory, or read from
      disk by slices.
    ids: int64 [N], as in the feature set or image store.
    names: [N] names of the images.
    head: maps text features into the space of `features`.
    info: content of `index.json`.
    faiss_index: FAISS index of `features`; None if there is none.
  """

  features: np.ndarray | sharded_array.Features
  ids: np.ndarray | sharded_array.Column
  names: list[str] | sharded_array.Column
  head: exported_head.ExportedHead
  info: Mapping[str, Any]
  faiss_index: Any


def write(
  run: pathlib.Path,
  folder: pathlib.Path,
  images: str | pathlib.Path,
  out: pathlib.Path,
) -> pathlib.Path:
  """Writes an index atomically.

  Args:
    run: an exported head, written by `python -m launch.export`.
    folder: a feature set of the encoders that the head was trained on.
    images: a split of that set (str), or the folder of an image store (Path).
    out: folder of the index, which must not exist. On the file system of the
      image store, the index takes no space.

  Returns:
    `out`.

  Raises:
    FileNotFoundError: the head, the feature set or the image store is missing.
    ValueError: head and features have different encoders, `out` exists, or see
      `feature_set.read` and `sharded.link`.
  """
  if out.exists():
    raise ValueError(f'{out} exists: remove it, or choose another --out')
  for name in HEAD:
    if not (run / name).is_file():
      raise FileNotFoundError(
        f'{run / name} is missing: write it with python -m launch.export '
        'WORKDIR'
      )
  head = exported_head.load(run)
  info = feature_set.read_info(folder)
  head.check_encoders(info.encoders)
  out.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix='.index_', dir=out.parent) as work:
    partial = pathlib.Path(work, 'index')
    (partial / 'head').mkdir(parents=True)
    for name in HEAD:
      shutil.copy(run / name, partial / 'head')
    if isinstance(images, str):
      content = _save_split(partial, folder, images, info, head.scale)
    else:
      content = _link_store(partial, images, info)
    content |= {
      'encoders': info.encoders._asdict(),
      'scale': head.scale,
      'image_dim': info.image_dim,
      'text_dim': info.text_dim,
      'step': head.step,
    }
    (partial / RECORD).write_text(
      json.dumps(content, indent=2, ensure_ascii=False) + '\n', 'utf-8'
    )
    partial.rename(out)
  return out


def _save_split(
  index: pathlib.Path,
  folder: pathlib.Path,
  name: str,
  info: feature_set.FeatureSetInfo,
  scale: float,
) -> dict[str, Any]:
  split = feature_set.read(folder, name)
  images = split.images.astype(np.float32) / np.float32(scale)
  np.save(index / GALLERY, images, allow_pickle=False)
  np.save(index / 'ids.npy', split.captions.image_ids, allow_pickle=False)
  (index / 'names.json').write_text(
    json.dumps(split.captions.image_names, ensure_ascii=False), 'utf-8'
  )
  faiss = load_faiss()
  if faiss is not None:
    faiss_index = faiss.IndexFlatL2(images.shape[1])
    faiss_index.add(images)
    faiss.write_index(faiss_index, str(index / FAISS))
  return {
    'version': VERSION,
    'name': info.name,
    'split': name,
    'split_sha256': info.splits[name]['sha256'],
    'namespace': info.namespace,
    'licence': info.licence,
    'images': len(images),
    'files': _file_hashes(index),
  }


def _link_store(
  index: pathlib.Path, images: pathlib.Path, info: feature_set.FeatureSetInfo
) -> dict[str, Any]:
  store = image_store.read_info(images)
  files = _file_hashes(index)
  shards = sharded.link(images, index, info.encoders.image)
  return {
    'version': SHARDED,
    'name': store.namespace,
    'namespace': store.namespace,
    'licence': store.licence,
    'images': sum(count for count, _ in shards.values()),
    'files': files,
    'shards': shards,
  }


def load(folder: pathlib.Path) -> Index:
  """Reads an index and verifies the sha256 of its files.

  The shards of an image store are only checked for existence. Their records are
  verified when they are read; the shape of their features is checked.

  Raises:
    FileNotFoundError: `folder` is not an index.
    ValueError: a file is missing or has changed, or the index has another
      version.
  """
  path = folder / RECORD
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing, so {folder} is not an index: make one with python '
      '-m jaxretrieval.index'
    )
  info = read_info(path)
  if info.get('version') not in (VERSION, SHARDED):
    raise ValueError(
      f'{path} has version {info.get("version")}, but this program reads '
      f'{VERSION} and {SHARDED}: make the index again'
    )
  for name in info['files']:
    untrusted.check_file_name(path, name)
  for name, sha256 in tqdm(info['files'].items(), 'sha256', delay=5):
    file = folder / name
    if not file.is_file() or atomic.file_fingerprint(file) != sha256:
      raise ValueError(
        f'{file} is missing or has changed: make the index again'
      )
  head = exported_head.load(folder / 'head')
  if info['version'] == SHARDED:
    shards = info.get('shards', {})
    images = sharded.read(folder, shards, info['image_dim'], head.scale)
    _check_consistent(path, info, head, *images)
    return Index(images.features, images.ids, images.names, head, info, None)
  features = untrusted.load_array(folder / GALLERY)
  names = untrusted.read_json(folder / 'names.json', untrusted.MAX_CAPTIONS)
  ids = untrusted.load_array(folder / 'ids.npy')
  _check_consistent(path, info, head, features, ids, names)
  faiss = load_faiss() if FAISS in info['files'] else None
  faiss_index = faiss.read_index(str(folder / FAISS)) if faiss else None
  return Index(features, ids, names, head, info, faiss_index)


def _check_consistent(path, info, head, features, ids, names) -> None:
  count = info['images']
  if (
    features.shape != (count, info['image_dim'])
    or {len(names), len(ids)} != {count}
    or head.scale != info['scale']
  ):
    raise ValueError(
      f'{path} is inconsistent with the files beside it: make the index again'
    )


def read_info(path: pathlib.Path) -> dict[str, Any]:
  """Reads `index.json`.

  Raises:
    ValueError: it is damaged.
  """
  try:
    # It may be large: it names every shard of an image store.
    info = untrusted.read_json(path, untrusted.MAX_CAPTIONS)
    if isinstance(info, dict) and isinstance(info.get('files'), dict):
      if isinstance(info.get('shards', {}), dict):
        return info
  except ValueError as error:
    raise ValueError(f'{path} is damaged: {error}') from error
  raise ValueError(f'{path} is damaged: make the index again')


def load_faiss() -> Any:
  """Returns the package faiss, or None if it is not installed."""
  try:
    import faiss  # pyright: ignore[reportMissingImports]
  except ModuleNotFoundError:
    return None
  return faiss


def _file_hashes(folder: pathlib.Path) -> dict[str, str]:
  paths = sorted(path for path in folder.rglob('*') if path.is_file())
  return {
    path.relative_to(folder).as_posix(): atomic.file_fingerprint(path)
    for path in paths
  }
