"""Reader of Tiny-ImageNet: the publisher's archive, checked and decoded.

100,000 images are for training, and the publisher's validation images are the
test split, because those of its own test split have no labels. They are 64x64
JPEG files of 2 kB, few enough to be decoded once: 1.35 GB.

A label is the index of a class in the sorted names of wnids.txt. Training
images are in the order of the classes and their numbers, the others in that of
val_annotations.txt.
"""

import contextlib
import hashlib
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxmix.classification.datasets import checks, jpeg
from jaxmix.classification.datasets.specs import DatasetSpec
from jaxmix.files import archives
from jaxmix.files.untrusted import check_file_name

_WNIDS, _ANNOTATIONS = 'wnids.txt', 'val/val_annotations.txt'
# Upper bounds in bytes: of a list, of an image and of an archive, inflated.
_LIST, _IMAGE, _ARCHIVE = 2**22, 2**16, 2**30


def read_source(
  spec: DatasetSpec, source: pathlib.Path
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
  """Reads, checks and decodes the publisher's archive or folder (a minute).

  Returns:
    Split to {'image', 'label'}, and name to sha256: of the two lists, and of
    the image files of each split with their names.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is damaged, or is not the publisher's: a list, the number
      of images of a class, or the size of an image.
  """
  splits = {}
  with _open(spec, source) as (read, lists, fingerprints):
    for split, images in lists.items():
      pixels = np.empty((len(images), *spec.image_shape), np.uint8)
      files = tqdm(
        _contents(read, images, split, fingerprints),
        desc=f'Decoding {spec.name} {split}',
        total=len(images),
        file=sys.stderr,
        mininterval=1,
      )
      for out, (name, content) in zip(pixels, files, strict=True):
        try:
          _decode(content, out)
        except ValueError as error:
          raise ValueError(
            f'{source}: {name} is not as published: {error}'
          ) from error
      labels = np.array([label for _, label in images], np.int32)
      splits[split] = {'image': pixels, 'label': labels}
  return splits, fingerprints


def source_fingerprints(
  spec: DatasetSpec, source: pathlib.Path
) -> dict[str, str]:
  """Returns those of `read_source`, equal for a folder and an archive of it."""
  with _open(spec, source) as (read, lists, fingerprints):
    for split, images in lists.items():
      for _ in _contents(read, images, split, fingerprints):
        pass
  return fingerprints


@contextlib.contextmanager
def _open(spec: DatasetSpec, source: pathlib.Path) -> Iterator[Any]:
  """Yields a file reader, (name, label) of each split, and fingerprints."""
  with archives.open_files(source, spec.folder, _ARCHIVE) as read:
    texts = {name: read(name, _LIST) for name in (_WNIDS, _ANNOTATIONS)}
    classes = _read_classes(spec, f'{source}: {_WNIDS}', texts[_WNIDS])
    label = f'{source}: {_ANNOTATIONS}'
    lists = {
      'train': [
        (f'train/{wnid}/images/{wnid}_{i}.JPEG', label)
        for label, wnid in enumerate(classes)
        for i in range(spec.train_examples // spec.num_classes)
      ],
      'test': _read_annotations(spec, label, texts[_ANNOTATIONS], classes),
    }
    fingerprints = {
      name: hashlib.sha256(text).hexdigest() for name, text in texts.items()
    }
    yield read, lists, fingerprints


def _contents(read, images, split: str, fingerprints: dict[str, str]):
  """Yields names and contents in order, then adds their fingerprint."""
  total = hashlib.sha256()
  for name, _ in images:
    content = read(name, _IMAGE)
    total.update(f'{name} {len(content)}\n'.encode() + content)
    yield name, content
  fingerprints[f'images of {split}'] = total.hexdigest()


def _read_classes(spec: DatasetSpec, label: str, text: bytes) -> list[str]:
  names = sorted(text.decode('ascii', 'replace').split())
  for name in names:
    if not re.fullmatch(r'n\d{8}', name):
      raise ValueError(
        f'{label} names the class {name!r}, expected n<8 digits>'
      )
  if len(set(names)) != len(names) or len(names) != spec.num_classes:
    raise ValueError(
      f'{label} names {len(set(names))} classes in {len(names)} lines, '
      f'expected {spec.num_classes}'
    )
  return names


def _read_annotations(
  spec: DatasetSpec, label: str, text: bytes, classes: list[str]
) -> list[tuple[str, int]]:
  labels = {wnid: i for i, wnid in enumerate(classes)}
  images = []
  for i, line in enumerate(text.decode('ascii', 'replace').splitlines(), 1):
    # An image, its class, and a bounding box, which is not used.
    name, wnid = (line.split('\t') + ['', ''])[:2]
    check_file_name(f'{label} (line {i})', name)
    if wnid not in labels:
      raise ValueError(
        f'{label}: line {i} ({name}) names the class {wnid!r}, which {_WNIDS} '
        'does not'
      )
    images.append((f'val/images/{name}', labels[wnid]))
  if len({name for name, _ in images}) != len(images):
    raise ValueError(f'{label} names an image twice')
  array = np.array([label for _, label in images], np.int32)
  each = spec.test_examples // spec.num_classes
  checks.check_labels(label, array, spec.num_classes, each)
  return images


def _decode(content: bytes, out: np.ndarray) -> None:
  frame = jpeg.read_frame(content)
  height, width = out.shape[:2]
  if (frame.height, frame.width) != (height, width):
    raise ValueError(
      f'it has {frame.height}x{frame.width} pixels, expected {height}x{width}'
    )
  # The crop is the whole image at its own size: nothing is resized.
  crop = jpeg.Crop(0, 0, height, width, flip=False)
  jpeg.read_crop(content, frame, crop, out, whole=True)
