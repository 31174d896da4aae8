"""Shards of an image store in an index: linked, opened, and read by row."""

import functools
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

from tqdm import tqdm

from jaxmix.files import atomic
from jaxretrieval.index import image_store
from jaxretrieval.index.sharded_array import Column, Features, ShardOffsets


class ShardedIndex(NamedTuple):
  """An index whose features are read from disk on demand.

  Attributes:
    features: float32 [N, D], divided by the scale.
    ids: [N] ids, 63 bits.
    names: [N] names.
  """

  features: Features
  ids: Column
  names: Column


def link(
  images: pathlib.Path, index: pathlib.Path, encoder: str
) -> dict[str, list[Any]]:
  """Links the shards of an image store into an index.

  Args:
    images: folder of the image store.
    index: folder of the index. On the same file system it gets hard links,
      because the files of a store are never changed, only replaced.
    encoder: id of the image encoder that the store must have.

  Returns:
    For each shard its number of images and the sha256 of its record.

  Raises:
    FileNotFoundError: `images` is not an image store.
    ValueError: the store has another encoder, missing or damaged shards, or no
      images.
  """
  store = image_store.read_info(images)
  if store.encoder != encoder:
    raise ValueError(
      f'{images} was encoded by {store.encoder!r}, but the head was trained '
      f'with {encoder!r}: distances would be meaningless'
    )
  (index / image_store.SHARDS).mkdir()
  counts, damaged = {}, []
  for name in tqdm(store.shards, 'index', unit=' shards', delay=5):
    record = image_store.load(images, name)
    if record is None or record.encoder != encoder:
      damaged.append(name)
      continue
    links = image_store.paths(index, name)
    for path, link in zip(image_store.paths(images, name), links, strict=True):
      try:
        os.link(path, link)
      except OSError:
        shutil.copy(path, link)
    image_store.read_features(links[0], 0, len(record.names))
    counts[name] = [len(record.names), atomic.file_fingerprint(links[1])]
  if damaged:
    raise ValueError(
      f'{len(damaged)} of {len(store.shards)} shards of {images} are missing '
      f'or damaged, e.g. {damaged[0]}: run jaxretrieval.extract.gallery again'
    )
  if not any(count for count, _ in counts.values()):
    raise ValueError(f'{images} has no images')
  return counts


def read(
  folder: pathlib.Path, shards: Mapping[str, list[Any]], dim: int, scale: float
) -> ShardedIndex:
  """Opens the shards of an index without reading them.

  Args:
    folder: folder of the index.
    shards: result of `link`, from `index.json`.
    dim: D.
    scale: number by which features are divided.

  Raises:
    ValueError: a shard is missing, or `shards` is malformed. Later, when a
      shard is read: it has changed.
  """
  shard_folder = folder / image_store.SHARDS
  for name, entry in shards.items():
    image_store.check_shard_name(folder, name)
    types = [*map(type, entry)] if isinstance(entry, list) else None
    if types != [int, str] or not 0 <= entry[0] < 2**48:
      raise ValueError(
        f'{folder} is damaged: the entry of shard {name} is {entry!r}'
      )
  exists = shard_folder.is_dir()
  missing = image_store.missing(folder, [*shards]) if exists else [*shards]
  if missing:
    raise ValueError(
      f'{shard_folder} lacks {len(missing)} of {len(shards)} shards, e.g. '
      f'{missing[0]}: make the index again'
    )
  counts = {name: count for name, (count, _) in shards.items()}
  offsets = ShardOffsets.of(counts)

  @functools.lru_cache(4)
  def record(name: str) -> image_store.ShardRecord:
    _, path = image_store.paths(folder, name)
    if atomic.file_fingerprint(path) != shards[name][1]:
      raise ValueError(f'{path} has changed: make the index again')
    return image_store.read_record(path)

  return ShardedIndex(
    Features(folder, offsets, dim, scale),
    Column(offsets, lambda name: record(name).ids),
    Column(offsets, lambda name: record(name).names),
  )
