"""The shards of a gallery in an index: linked there, opened, read by row."""

import functools
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

from tqdm import tqdm

from jaxmix.files import atomic
from jaxretrieval.index import image_store
from jaxretrieval.index.sharded_array import Column, Features, Layout


class Opened(NamedTuple):
  """The rows of an index that stays on disk; N images.

  Attributes:
    features: float32 [N, D], divided by the scale.
    ids: [N], 63 bits.
    names: [N].
  """

  features: Features
  ids: Column
  names: Column


def link(
  images: pathlib.Path, made: pathlib.Path, encoder: str
) -> dict[str, list[Any]]:
  """Puts the shards of a gallery into an index.

  Args:
    images: folder of the gallery.
    made: folder of the index. On the same file system it gets hard links: the
      gallery's files are never changed, only replaced.
    encoder: id of the one that the gallery must be by.

  Returns:
    Of each shard, how many images it has and the sha256 of its record.

  Raises:
    FileNotFoundError: there is no gallery.
    ValueError: it is by another encoder, shards are missing or damaged, or
      there are no images.
  """
  about = image_store.read_info(images)
  if about.encoder != encoder:
    raise ValueError(
      f'{images} is by {about.encoder!r}, the head by {encoder!r}: distances '
      'would mean nothing'
    )
  (made / image_store.SHARDS).mkdir()
  counts, broken = {}, []
  for name in tqdm(about.shards, 'index', unit=' shards', delay=5):
    record = image_store.load(images, name)
    if record is None or record.encoder != encoder:
      broken.append(name)
      continue
    ours = image_store.paths(made, name)
    for theirs, path in zip(image_store.paths(images, name), ours, strict=True):
      try:
        os.link(theirs, path)
      except OSError:
        shutil.copy(theirs, path)
    image_store.read_features(ours[0], 0, len(record.names))
    counts[name] = [len(record.names), atomic.file_fingerprint(ours[1])]
  if broken:
    raise ValueError(
      f'{len(broken)} of {len(about.shards)} shards of {images} are missing or '
      f'damaged, e.g. {broken[0]}: run jaxretrieval.extract.gallery again'
    )
  if not any(count for count, _ in counts.values()):
    raise ValueError(f'{images} has no images')
  return counts


def read(
  folder: pathlib.Path, shards: Mapping[str, list[Any]], dim: int, scale: float
) -> Opened:
  """Opens the shards in an index; reads none of them.

  Args:
    folder: of the index.
    shards: as `link` gave them.
    dim: D.
    scale: features are divided by it.

  Raises:
    ValueError: a shard is missing, or `shards` is not of `link`. Later, where
      one is read: it is not what was written.
  """
  where = folder / image_store.SHARDS
  for name, about in shards.items():
    image_store.check_shard_name(folder, name)
    kinds = [*map(type, about)] if isinstance(about, list) else None
    if kinds != [int, str] or not 0 <= about[0] < 2**48:
      raise ValueError(f'{folder} is broken: shard {name} is {about!r}')
  missing = (
    image_store.missing(folder, [*shards]) if where.is_dir() else [*shards]
  )
  if missing:
    raise ValueError(
      f'{where} lacks {len(missing)} of {len(shards)} shards, e.g. '
      f'{missing[0]}: make the index again'
    )
  layout = Layout.of({name: count for name, (count, _) in shards.items()})

  @functools.lru_cache(4)
  def record(name: str) -> image_store.Record:
    _, path = image_store.paths(folder, name)
    if atomic.file_fingerprint(path) != shards[name][1]:
      raise ValueError(f'{path} is not what was written: make the index again')
    return image_store.read_record(path)

  return Opened(
    Features(folder, layout, dim, scale),
    Column(layout, lambda name: record(name).ids),
    Column(layout, lambda name: record(name).names),
  )
