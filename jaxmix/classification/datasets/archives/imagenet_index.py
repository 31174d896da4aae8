"""Index of the JPEG files in ImageNet's archives, as published.

The headers of an archive are read once; then a JPEG file anywhere in it can be
read by itself. Nothing is extracted.
"""

import dataclasses
import io
import pathlib
import re
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from jaxmix.classification.datasets import checks, jpeg
from jaxmix.classification.datasets.specs import DatasetSpec
from jaxmix.files.archives import index_tar

_MAX_BYTES = 2**25  # of a JPEG file
_MAX_LABELS = 2**22  # bytes of the list of labels
_PNG = b'\x89PNG\r\n\x1a\n'


@dataclasses.dataclass(frozen=True)
class JpegIndex:
  """The JPEG files of an archive, in its order.

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
    """Reads one file from the opened archive.

    Raises:
      ValueError: the archive ends before the file does.
    """
    stream.seek(int(self.offsets[index]))
    content = stream.read(int(self.sizes[index]))
    if len(content) < self.sizes[index]:
      raise ValueError(f'{self.path}: {self.names[index]} is cut off')
    return content


def index_train(
  path: pathlib.Path, spec: DatasetSpec
) -> tuple[JpegIndex, list[str]]:
  """Indexes the tar of tars of the train split.

  Returns:
    The index, and the sorted names of the classes.

  Raises:
    FileNotFoundError, ValueError: the archive is missing or not as published.
  """
  with path.open('rb') as stream:
    tars = {}
    for name, offset, size in index_tar(stream, str(path)):
      if not re.fullmatch(r'n\d{8}\.tar', name) or name in tars:
        raise ValueError(
          f'{path}: {name!r} is not named n<8 digits>.tar, or occurs twice'
        )
      tars[name] = offset, size
    if len(tars) != spec.num_classes:
      raise ValueError(
        f'{path} has {len(tars)} classes, expected {spec.num_classes}: it is '
        'another archive, or incomplete'
      )
    classes = [name.removesuffix('.tar') for name in sorted(tars)]
    files = []
    bar = tqdm(classes, desc=f'Indexing {path.name}', mininterval=1)
    for label, wnid in enumerate(bar):
      tar = f'{path}: {wnid}.tar'
      for name, offset, size in index_tar(stream, tar, *tars[f'{wnid}.tar']):
        if not re.fullmatch(rf'{wnid}_\d+\.JPEG', name):
          raise ValueError(f'{tar}: {name!r} is not named {wnid}_<number>.JPEG')
        files.append((name, offset, size, label))
  index = _make_index(path, files)
  checks.check_labels(path, index.labels, spec.num_classes)
  if len(files) != spec.train_examples:
    raise ValueError(
      f'{path} has {len(files)} images, expected {spec.train_examples}: it is '
      'another archive, or damaged'
    )
  return index, classes


def index_validation(
  path: pathlib.Path,
  labels_path: pathlib.Path,
  classes: list[str],
  spec: DatasetSpec,
) -> JpegIndex:
  """Indexes the tar of the validation split.

  Args:
    path: of the tar.
    labels_path: a text file of one class name a line.
    classes: sorted names of the classes.
    spec: of ImageNet; its test split is the validation split.

  Raises:
    FileNotFoundError, ValueError: a file is missing or not as published.
  """
  numbers = {wnid: label for label, wnid in enumerate(classes)}
  with labels_path.open('rb') as file:
    wnids = file.read(_MAX_LABELS).decode('ascii', 'replace').split()
  for line, wnid in enumerate(wnids, 1):
    if wnid not in numbers:
      raise ValueError(
        f'{labels_path}: line {line} names the class {wnid!r}, which has no '
        'training images'
      )
  labels = np.array([numbers[wnid] for wnid in wnids], np.int32)
  each = spec.test_examples // spec.num_classes
  checks.check_labels(labels_path, labels, spec.num_classes, each)
  files = []
  with path.open('rb') as stream:
    for name, offset, size in index_tar(stream, str(path)):
      number = re.fullmatch(r'ILSVRC2012_val_(\d{8})\.JPEG', name)
      if not number or not 1 <= int(number[1]) <= len(wnids):
        raise ValueError(
          f'{path}: {name!r} is not named ILSVRC2012_val_<1..{len(wnids)}>.JPEG'
        )
      files.append((name, offset, size, labels[int(number[1]) - 1]))
  index = _make_index(path, files)
  if len(files) != len(wnids):
    raise ValueError(
      f'{path} has {len(files)} images, expected {len(wnids)}: it is another '
      'archive, or damaged'
    )
  return index


def _make_index(
  path: pathlib.Path, files: list[tuple[str, int, int, int]]
) -> JpegIndex:
  """Makes an index of (name, offset, size, label).

  Raises:
    ValueError: there are no files, one is empty or too large, or two have the
      same name.
  """
  if not files:
    raise ValueError(f'{path} has no images')
  names, offsets, sizes, labels = zip(*files, strict=True)
  for name, size in zip(names, sizes, strict=True):
    if not 0 < size <= _MAX_BYTES:
      raise ValueError(
        f'{path}: {name} has {size} bytes, expected 1 to {_MAX_BYTES}'
      )
  if len(set(names)) < len(names):
    raise ValueError(f'{path} has two files of the same name')
  return JpegIndex(
    path=path,
    names=list(names),
    offsets=np.array(offsets, np.int64),
    sizes=np.array(sizes, np.int64),
    labels=np.array(labels, np.int32),
  )


def as_jpeg(content: bytes) -> bytes:
  """Returns a JPEG file unchanged, and a PNG file as a JPEG file.

  One file of ImageNet is a PNG with the name of a JPEG.

  Raises:
    ValueError: it is neither, or damaged.
  """
  if not content.startswith(_PNG):
    jpeg.read_frame(content)
    return content
  out = io.BytesIO()
  try:
    image = Image.open(io.BytesIO(content), formats=['PNG']).convert('RGB')
    image.save(out, 'JPEG', quality=100, subsampling='4:4:4')
  except (OSError, SyntaxError, Image.DecompressionBombError) as error:
    raise ValueError(f'it is a damaged PNG: {error}') from error
  return out.getvalue()
