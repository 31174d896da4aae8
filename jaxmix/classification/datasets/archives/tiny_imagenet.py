"""Tiny-ImageNet as its publisher gives it, checked and decoded.

The zip archive, the folder in it, or the folder around that one becomes arrays:
100,000 pictures to train on, and the publisher's validation pictures as the
test split, for those of its own test have no labels. They are 64x64 JPEG files
of 2 kB, few enough to be decoded once: 1.35 GB.

A class is the place of its name in wnids.txt, sorted. Training pictures are in
the order of the classes and their numbers, the others in that of
val_annotations.txt.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxmix.classification.datasets import checks, inputs, jpeg
from jaxmix.files import archives

SHAPE = (64, 64, 3)
_WNIDS, _ANNOTATIONS = 'wnids.txt', 'val/val_annotations.txt'
# Upper bounds, in bytes: of a list, of a picture and of an archive, inflated.
_LIST, _PICTURE, _ARCHIVE = 2**22, 2**16, 2**30


@dataclasses.dataclass(frozen=True, eq=False)  # hashed as itself
class Layout:
  """The publisher's archive.

  Attributes:
    folder: the only folder of the archive.
    name, url, checksum, variable, store, feature, shape, dtype, classes,
    per_class: as in `published.Layout`.
  """

  name: str = 'tiny_imagenet'
  url: str = 'http://cs231n.stanford.edu/tiny-imagenet-200.zip'
  checksum: str = 'md5:90528d7ca1a48142e341f4ef8d21d0de'
  variable: str = 'JAXMIX_TINY_IMAGENET'
  folder: str = 'tiny-imagenet-200'
  store: str = 'jaxmix_tiny_imagenet'
  feature: str = 'image'
  shape: tuple[int, ...] = SHAPE
  dtype: str = 'uint8'
  classes: int = 200
  per_class: dict[str, int] = dataclasses.field(
    default_factory=lambda: {'train': 500, 'test': 50}
  )

  def examples(self, split: str) -> int:
    """Number of examples of a split."""
    return self.per_class[split] * self.classes


LAYOUTS = {'tiny_imagenet': Layout()}


def read_source(
  layout: Layout, source: str | os.PathLike[str]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
  """Reads, checks and decodes the publisher's archive or folder (a minute).

  Returns:
    Split to {'image', 'label'}, and name to sha256: of the two lists, and of
    the pictures of each split with their names.

  Raises:
    FileNotFoundError: a file is not there.
    ValueError: what is there is not the publisher's: a list, the number of
      pictures of a class, or the size of a picture; or it is damaged.
  """
  source = pathlib.Path(source).expanduser()
  splits = {}
  with _open(layout, source) as (read, lists, sha256):
    for split, pictures in lists.items():
      images = np.empty((len(pictures), *layout.shape), np.uint8)
      bar = tqdm(
        _contents(read, pictures, split, sha256),
        desc=f'Decoding {layout.name} {split}',
        total=len(pictures),
        file=sys.stderr,
        mininterval=1,
      )
      for image, (name, content) in zip(images, bar, strict=True):
        try:
          _decode(content, image)
        except ValueError as error:
          raise ValueError(
            f'{source}: {name} is not as published: {error}'
          ) from error
      labels = np.array([label for _, label in pictures], np.int32)
      splits[split] = {'image': images, 'label': labels}
  return splits, sha256


def source_sha256(
  layout: Layout, source: str | os.PathLike[str]
) -> dict[str, str]:
  """The sums of `read_source`, the same for a folder and for an archive."""
  source = pathlib.Path(source).expanduser()
  if not source.is_file():
    return _sum(layout, source)
  about = source.stat()
  return _sum_archive(layout, source, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=4)
def _sum_archive(layout, source, *stamp):
  del stamp  # only so that a changed file is read again
  return _sum(layout, source)


def _sum(layout: Layout, source: pathlib.Path) -> dict[str, str]:
  with _open(layout, source) as (read, lists, sha256):
    for split, pictures in lists.items():
      for _ in _contents(read, pictures, split, sha256):
        pass
  return sha256


@contextlib.contextmanager
def _open(layout: Layout, source: pathlib.Path) -> Iterator[Any]:
  """Yields how to read a file, (name, label) of each split, and sums so far."""
  with archives.open_files(layout, source, _ARCHIVE) as read:
    texts = {name: read(name, _LIST) for name in (_WNIDS, _ANNOTATIONS)}
    classes = _read_classes(layout, f'{source}: {_WNIDS}', texts[_WNIDS])
    place = f'{source}: {_ANNOTATIONS}'
    lists = {
      'train': [
        (f'train/{wnid}/images/{wnid}_{i}.JPEG', label)
        for label, wnid in enumerate(classes)
        for i in range(layout.per_class['train'])
      ],
      'test': _read_annotations(layout, place, texts[_ANNOTATIONS], classes),
    }
    sha256 = {n: hashlib.sha256(text).hexdigest() for n, text in texts.items()}
    yield read, lists, sha256


def _contents(read, pictures, split: str, sha256: dict[str, str]):
  """Names and contents in order; adds their sum to `sha256` at the end."""
  whole = hashlib.sha256()
  for name, _ in pictures:
    content = read(name, _PICTURE)
    whole.update(f'{name} {len(content)}\n'.encode() + content)
    yield name, content
  sha256[f'pictures of {split}'] = whole.hexdigest()


def _read_classes(layout: Layout, place: str, text: bytes) -> list[str]:
  names = sorted(text.decode('ascii', 'replace').split())
  for name in names:
    if not re.fullmatch(r'n\d{8}', name):
      raise ValueError(
        f'{place} names the class {name!r}, expected n<8 digits>'
      )
  if len(set(names)) != len(names) or len(names) != layout.classes:
    raise ValueError(
      f'{place} names {len(set(names))} classes in {len(names)} lines, '
      f'expected {layout.classes}'
    )
  return names


def _read_annotations(
  layout: Layout, place: str, text: bytes, classes: list[str]
) -> list[tuple[str, int]]:
  labels = {wnid: label for label, wnid in enumerate(classes)}
  pictures = []
  for i, line in enumerate(text.decode('ascii', 'replace').splitlines(), 1):
    # A picture, its class, and a box that classification has no use for.
    name, wnid = (line.split('\t') + ['', ''])[:2]
    inputs.check_file_name(pathlib.Path(f'{place} (line {i})'), name)
    if wnid not in labels:
      raise ValueError(
        f'{place}: line {i} ({name}) names the class {wnid!r}, which {_WNIDS} '
        'does not'
      )
    pictures.append((f'val/images/{name}', labels[wnid]))
  if len({name for name, _ in pictures}) != len(pictures):
    raise ValueError(f'{place} names a picture twice')
  found = np.array([label for _, label in pictures], np.int32)
  checks.check_labels(place, found, layout.classes, layout.per_class['test'])
  return pictures


def _decode(content: bytes, out: np.ndarray) -> None:
  frame = jpeg.read_frame(content)
  height, width = out.shape[:2]
  if (frame.height, frame.width) != (height, width):
    raise ValueError(
      f'it has {frame.height}x{frame.width} pixels, expected {height}x{width}'
    )
  # All of it at its own size: nothing is resized.
  crop = jpeg.Crop(0, 0, height, width, flip=False)
  jpeg.read_crop(content, frame, crop, out, whole=True)
