"""Where the photographs of ImageNet lie in its publisher's archives.

An archive is looked through once, header by header; then a photograph anywhere
in it can be read by itself. Nothing is extracted: names and links in an archive
cannot lead anywhere.
"""

import dataclasses
import os
import pathlib
import re
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from jaxmix.classification.datasets import checks

_HEADER = 2**20  # bytes that are read at once of what are headers
_PHOTO = 2**25  # bytes of a photograph, at most
_LABELS = 2**22  # bytes of the list of classes, at most


@dataclasses.dataclass(frozen=True)
class Layout:
  """What the publisher's files are.

  Attributes:
    train: a tar of tars, `<class>.tar` with `<class>_<number>.JPEG`.
    validation: a tar, `ILSVRC2012_val_<number>.JPEG`.
    labels: the class of each, a line of text.
    classes: their number.
    train_examples: photographs in `train`.
    per_class: photographs of each class in `validation`.
  """

  train: str = 'ILSVRC2012_img_train.tar'
  validation: str = 'ILSVRC2012_img_val.tar'
  labels: str = 'imagenet_2012_validation_synset_labels.txt'
  classes: int = 1000
  train_examples: int = 1_281_167
  per_class: int = 50


LAYOUT = Layout()


@dataclasses.dataclass(frozen=True)
class Photos:
  """The photographs of an archive, in its order.

  Attributes:
    path: of the archive.
    names: of the files.
    offsets: int64 `[N]`, where each begins in the archive.
    sizes: int64 `[N]`, in bytes.
    labels: int32 `[N]`.
  """

  path: pathlib.Path
  names: list[str]
  offsets: np.ndarray
  sizes: np.ndarray
  labels: np.ndarray

  def read(self, stream: Any, index: int) -> bytes:
    """Reads one from the opened archive.

    Raises:
      ValueError: the archive ended.
    """
    stream.seek(int(self.offsets[index]))
    content = stream.read(int(self.sizes[index]))
    if len(content) < self.sizes[index]:
      raise ValueError(f'{self.path}: {self.names[index]} is not whole')
    return content


def index_train(path: pathlib.Path, layout: Layout) -> tuple[Photos, list[str]]:
  """Looks through the tar of tars: its photographs, and the names of classes.

  Raises:
    FileNotFoundError, ValueError: it is not there, or not as published.
  """
  with path.open('rb') as stream:
    archives = {}
    for name, offset, size in _members(stream, str(path)):
      if not re.fullmatch(r'n\d{8}\.tar', name) or name in archives:
        raise ValueError(f'{path}: {name!r} is no n<8 digits>.tar, or is twice')
      archives[name] = offset, size
    if len(archives) != layout.classes:
      raise ValueError(
        f'{path} has {len(archives)} classes, expected {layout.classes}: it is '
        'another archive, or not whole'
      )
    classes = [name.removesuffix('.tar') for name in sorted(archives)]
    found = []
    bar = tqdm(classes, desc=f'Looking through {path.name}', mininterval=1)
    for label, wnid in enumerate(bar):
      place = f'{path}: {wnid}.tar'
      for name, offset, size in _members(
        stream, place, *archives[f'{wnid}.tar']
      ):
        if not re.fullmatch(rf'{wnid}_\d+\.JPEG', name):
          raise ValueError(f'{place}: {name!r} is no {wnid}_<number>.JPEG')
        found.append((name, offset, size, label))
  photos = _gather(path, found)
  checks.check_labels(path, photos.labels, layout.classes)
  if len(found) != layout.train_examples:
    raise ValueError(
      f'{path} has {len(found)} photographs, expected {layout.train_examples}: '
      'it is another archive, or damaged'
    )
  return photos, classes


def index_validation(
  path: pathlib.Path,
  labels_path: pathlib.Path,
  classes: list[str],
  layout: Layout,
) -> Photos:
  """Looks through the tar of the photographs to evaluate on.

  Raises:
    FileNotFoundError, ValueError: a file is not there, or not as published.
  """
  numbers = {wnid: label for label, wnid in enumerate(classes)}
  with labels_path.open('rb') as file:
    wnids = file.read(_LABELS).decode('ascii', 'replace').split()
  for line, wnid in enumerate(wnids, 1):
    if wnid not in numbers:
      raise ValueError(
        f'{labels_path}: line {line} names the class {wnid!r}, of which there '
        'is no photograph to train on'
      )
  labels = np.array([numbers[wnid] for wnid in wnids], np.int32)
  checks.check_labels(labels_path, labels, layout.classes, layout.per_class)
  found = []
  with path.open('rb') as stream:
    for name, offset, size in _members(stream, str(path)):
      number = re.fullmatch(r'ILSVRC2012_val_(\d{8})\.JPEG', name)
      if not number or not 1 <= int(number[1]) <= len(wnids):
        raise ValueError(
          f'{path}: {name!r} is no ILSVRC2012_val_<1..{len(wnids)}>.JPEG'
        )
      found.append((name, offset, size, labels[int(number[1]) - 1]))
  photos = _gather(path, found)
  if len(found) != len(wnids):
    raise ValueError(
      f'{path} has {len(found)} photographs, expected {len(wnids)}: it is '
      'another archive, or damaged'
    )
  return photos


class _Part:
  """What tarfile needs of a file, for a part of one; bounded in memory."""

  def __init__(self, stream: Any, start: int, size: int):
    self._stream, self._start, self._size, self._at = stream, start, size, 0

  def tell(self) -> int:
    return self._at

  def seek(self, at: int) -> int:
    self._at = at
    return at

  def read(self, size: int) -> bytes:
    if size > _HEADER:
      raise ValueError(f'a header of {size} bytes')
    self._stream.seek(self._start + self._at)
    content = self._stream.read(max(0, min(size, self._size - self._at)))
    self._at += len(content)
    return content


def _members(
  stream: Any, label: str, start: int = 0, size: int | None = None
) -> Iterator[tuple[str, int, int]]:
  """Looks through an archive, or through one that lies in another.

  Args:
    stream: the opened file.
    label: what it is, for messages.
    start: where the archive begins.
    size: its bytes; None for all.

  Yields:
    Name, offset in the stream and size of each file, in order.

  Raises:
    ValueError: it is no tar archive, not whole, or has links or the like.
  """
  if size is None:
    size = os.fstat(stream.fileno()).st_size
  part: Any = _Part(stream, start, size)
  try:
    with tarfile.open(fileobj=part, mode='r:') as archive:
      for member in archive:
        if member.isdir():
          continue
        plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
        if not plain or member.issparse():
          raise ValueError(f'{member.name!r} is no plain file')
        if not 0 <= member.size <= size - member.offset_data:
          raise ValueError(f'{member.name!r} goes past the end')
        yield (
          member.name.removeprefix('./'),
          start + member.offset_data,
          member.size,
        )
  # ValueError and OverflowError: numbers that cannot be.
  except (tarfile.TarError, EOFError, OverflowError, ValueError) as error:
    raise ValueError(
      f'{label} is not a whole tar archive of plain files: {error}'
    ) from error


def _gather(
  path: pathlib.Path, found: list[tuple[str, int, int, int]]
) -> Photos:
  """Makes `Photos` of (name, offset, size, label).

  Raises:
    ValueError: there is none, one of no or of too many bytes, or two of one
      name.
  """
  if not found:
    raise ValueError(f'{path} has no photographs')
  names, offsets, sizes, labels = zip(*found, strict=True)
  for name, size in zip(names, sizes, strict=True):
    if not 0 < size <= _PHOTO:
      raise ValueError(
        f'{path}: {name} has {size} bytes, expected 1 to {_PHOTO}'
      )
  if len(set(names)) < len(names):
    raise ValueError(f'{path} has two files of one name')
  return Photos(
    path=path,
    names=list(names),
    offsets=np.array(offsets, np.int64),
    sizes=np.array(sizes, np.int64),
    labels=np.array(labels, np.int32),
  )
