"""Exports a gallery that can be searched with sentences.

  python -m jaxretrieval.index --run runs/m3l/export --features sets/mine/... \
    --split test --out index

The index is one folder with all that a search needs but the text encoder, whose
id it names: `gallery.npy`, image features divided by the head's scale, float32
[N, D]; `ids.npy` and `names.json`; `head/`, the exported head; `gallery.faiss`,
an exact FAISS index, if faiss is installed (pip install faiss-cpu); and
`index.json`: encoders, scale, licence, counts and the sha256 of each file.

With `--gallery galleries/web` in place of `--split` the images are those of a
gallery, and stay as they are: `shards/` has its files, as hard links where that
can be. They are searched from the disk, and no file or list of all of them is
made. `--features` is then any set by the encoders that the head was trained on.
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
SHARDED = 2  # the version of an index of a gallery
RECORD = 'index.json'
GALLERY = 'gallery.npy'
FAISS = 'gallery.faiss'
HEAD = ('arrays.npz', 'export.json')


class Index(NamedTuple):
  """An index; N images.

  Attributes:
    gallery: float32 [N, D], divided by `head.scale`; in RAM, or read by slices.
    ids: int64 [N], as in the feature set or the gallery.
    names: [N] of the images.
    head: maps text features into the gallery's space.
    info: what `index.json` says.
    flat: FAISS' own index of the gallery; None without.
  """

  gallery: np.ndarray | sharded_array.Features
  ids: np.ndarray | sharded_array.Column
  names: list[str] | sharded_array.Column
  head: exported_head.ExportedHead
  info: Mapping[str, Any]
  flat: Any


def write(
  run: pathlib.Path,
  folder: pathlib.Path,
  images: str | pathlib.Path,
  out: pathlib.Path,
) -> pathlib.Path:
  """Writes an index, whole or not at all.

  Args:
    run: an exported head, as `python -m launch.export` writes it.
    folder: of a feature set by the encoders that the head was trained on.
    images: a split of that set; or the folder of a gallery.
    out: where the index goes; must not be there yet. On the file system of the
      gallery, it takes no space.

  Returns:
    `out`.

  Raises:
    FileNotFoundError: there is no such head, feature set or gallery.
    ValueError: head and features are of other encoders, `out` is there, or as
      `features.read` or `sharded.link`.
  """
  if out.exists():
    raise ValueError(f'{out} is there: remove it, or choose another --out')
  for name in HEAD:
    if not (run / name).is_file():
      raise FileNotFoundError(
        f'{run / name} is missing: python -m launch.export WORKDIR writes it'
      )
  head = exported_head.load(run)
  info = feature_set.read_info(folder)
  head.check_encoders(info.encoders)
  out.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix='.index_', dir=out.parent) as work:
    made = pathlib.Path(work, 'index')
    (made / 'head').mkdir(parents=True)
    for name in HEAD:
      shutil.copy(run / name, made / 'head')
    if isinstance(images, str):
      described = _save_split(made, folder, images, info, head.scale)
    else:
      described = _link_gallery(made, images, info)
    described |= {
      'encoders': info.encoders._asdict(),
      'scale': head.scale,
      'image_dim': info.image_dim,
      'text_dim': info.text_dim,
      'step': head.step,
    }
    (made / RECORD).write_text(
      json.dumps(described, indent=2, ensure_ascii=False) + '\n', 'utf-8'
    )
    made.rename(out)
  return out


def _save_split(
  made: pathlib.Path,
  folder: pathlib.Path,
  split: str,
  info: feature_set.Info,
  scale: float,
) -> dict[str, Any]:
  whole = feature_set.read(folder, split)
  images = whole.images.astype(np.float32) / np.float32(scale)
  np.save(made / GALLERY, images, allow_pickle=False)
  np.save(made / 'ids.npy', whole.captions.image_ids, allow_pickle=False)
  (made / 'names.json').write_text(
    json.dumps(whole.captions.image_names, ensure_ascii=False), 'utf-8'
  )
  faiss = load_faiss()
  if faiss is not None:
    flat = faiss.IndexFlatL2(images.shape[1])
    flat.add(images)
    faiss.write_index(flat, str(made / FAISS))
  return {
    'version': VERSION,
    'name': info.name,
    'split': split,
    'split_sha256': info.splits[split]['sha256'],
    'namespace': info.namespace,
    'licence': info.licence,
    'images': len(images),
    'files': _sums(made),
  }


def _link_gallery(
  made: pathlib.Path, images: pathlib.Path, info: feature_set.Info
) -> dict[str, Any]:
  about = image_store.read_info(images)
  files = _sums(made)
  shards = sharded.link(images, made, info.encoders.image)
  return {
    'version': SHARDED,
    'name': about.namespace,
    'namespace': about.namespace,
    'licence': about.licence,
    'images': sum(count for count, _ in shards.values()),
    'files': files,
    'shards': shards,
  }


def load(folder: pathlib.Path) -> Index:
  """Reads an index, after the sha256 of all its files.

  Of the shards of a gallery, only that they are there: each record is checked
  when it is read, features are as large as they were or refused.

  Raises:
    FileNotFoundError: it is none.
    ValueError: a file is missing or not as it was written, or the index is of
      another version.
  """
  path = folder / RECORD
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing: {folder} is no index; python -m jaxretrieval.index '
      'makes one'
    )
  info = read_info(path)
  if info.get('version') not in (VERSION, SHARDED):
    raise ValueError(
      f'{path}: version {info.get("version")}, this program reads {VERSION} '
      f'and {SHARDED}: make the index again'
    )
  for name in info['files']:
    untrusted.check_file_name(path, name)
  for name, wanted in tqdm(info['files'].items(), 'sha256', delay=5):
    file = folder / name
    if not file.is_file() or atomic.file_fingerprint(file) != wanted:
      raise ValueError(
        f'{file} is missing or not what was written: make the index again'
      )
  head = exported_head.load(folder / 'head')
  if info['version'] == SHARDED:
    shards = info.get('shards', {})
    images = sharded.read(folder, shards, info['image_dim'], head.scale)
    _check_fits(path, info, head, *images)
    return Index(images.features, images.ids, images.names, head, info, None)
  whole = untrusted.load_array(folder / GALLERY)
  names = untrusted.read_json(folder / 'names.json', untrusted.MAX_CAPTIONS)
  ids = untrusted.load_array(folder / 'ids.npy')
  _check_fits(path, info, head, whole, ids, names)
  faiss = load_faiss() if FAISS in info['files'] else None
  flat = faiss.read_index(str(folder / FAISS)) if faiss else None
  return Index(whole, ids, names, head, info, flat)


def _check_fits(path, info, head, images, ids, names) -> None:
  count = info['images']
  if (
    images.shape != (count, info['image_dim'])
    or {len(names), len(ids)} != {count}
    or head.scale != info['scale']
  ):
    raise ValueError(f'{path} does not fit the files beside it: make it again')


def read_info(path: pathlib.Path) -> dict[str, Any]:
  """Reads the record of an index."""
  try:
    # It names every shard of a gallery.
    info = untrusted.read_json(path, untrusted.MAX_CAPTIONS)
    if isinstance(info, dict) and isinstance(info.get('files'), dict):
      if isinstance(info.get('shards', {}), dict):
        return info
  except ValueError as error:
    raise ValueError(f'{path} is broken: {error}') from error
  raise ValueError(f'{path} is broken: make the index again')


def load_faiss() -> Any:
  """The package faiss, or None if it is not installed."""
  try:
    import faiss  # pyright: ignore[reportMissingImports]
  except ModuleNotFoundError:
    return None
  return faiss


def _sums(folder: pathlib.Path) -> dict[str, str]:
  paths = sorted(path for path in folder.rglob('*') if path.is_file())
  return {
    path.relative_to(folder).as_posix(): atomic.file_fingerprint(path)
    for path in paths
  }
