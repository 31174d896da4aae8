"""CIFAR-10 and CIFAR-100 as their publisher gives them, checked.

An archive (the binary version), the folder it unpacks to, or the folder around
that one becomes the arrays of each split. Needs neither TFDS nor TensorFlow.
"""

import dataclasses
import functools
import gzip
import hashlib
import os
import pathlib
import tarfile
import zlib
from typing import Any

import numpy as np

from jaxmix.classification.datasets import inputs

SHAPE = (32, 32, 3)
_PIXELS = 32 * 32 * 3
_SLACK = 2**22  # of an archive: headers, and the names of the classes


@dataclasses.dataclass(frozen=True)
class Layout:
  """The publisher's binary version of a data set.

  A file is a run of records: label bytes, the class last, then the red, green
  and blue planes of 32x32.

  Attributes:
    name: of the data set, tfds' name too.
    url: of the archive.
    checksum: of the archive, as published: its kind and the digest.
    variable: environment variable that may hold the path of the source.
    folder: the only folder of the archive.
    files: split to its files, in order.
    labels: number of values of each label byte; the last are the classes.
    per_class: split to examples of each class.
    store, feature, shape, dtype: as in `published.Layout`.
  """

  name: str
  url: str
  checksum: str
  variable: str
  folder: str
  files: dict[str, tuple[str, ...]]
  labels: tuple[int, ...]
  per_class: dict[str, int]
  store: str = 'jaxmix_cifar'
  feature: str = 'image'
  shape: tuple[int, ...] = SHAPE
  dtype: str = 'uint8'

  @property
  def classes(self) -> int:
    """Labels are 0..classes-1."""
    return self.labels[-1]

  def examples(self, split: str) -> int:
    """Number of examples of a split."""
    return self.per_class[split] * self.labels[-1]

  def sizes(self) -> dict[str, int]:
    """File name to its exact size in bytes."""
    record = len(self.labels) + _PIXELS
    return {
      file: self.examples(split) // len(files) * record
      for split, files in self.files.items()
      for file in files
    }


LAYOUTS = {
  'cifar10': Layout(
    name='cifar10',
    url='https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz',
    checksum='md5:c32a1d4ab5d03f1284b67883e8d87530',
    variable='JAXMIX_CIFAR10',
    folder='cifar-10-batches-bin',
    files={
      'train': tuple(f'data_batch_{i}.bin' for i in range(1, 6)),
      'test': ('test_batch.bin',),
    },
    labels=(10,),
    per_class={'train': 5000, 'test': 1000},
  ),
  'cifar100': Layout(
    name='cifar100',
    url='https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz',
    checksum='md5:03b5dce01913d631647c71ecec9e9cb8',
    variable='JAXMIX_CIFAR100',
    folder='cifar-100-binary',
    files={'train': ('train.bin',), 'test': ('test.bin',)},
    labels=(20, 100),  # coarse, fine
    per_class={'train': 500, 'test': 100},
  ),
}


def read_source(
  layout: Layout, source: str | os.PathLike[str]
) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, str]]:
  """Reads and checks the publisher's archive or folder.

  Returns:
    Split to {'image', 'label'}, and file name to sha256.

  Raises:
    FileNotFoundError: a file is not there.
    ValueError: a file is not the publisher's: its size, a label or the number
      of examples of a class is not what it must be.
  """
  files = _read_files(layout, pathlib.Path(source).expanduser())
  splits = {}
  for split, names in layout.files.items():
    rows = np.concatenate(
      [_parse(layout, f'{source}: {name}', files[name]) for name in names]
    )
    k = len(layout.labels)
    labels = rows[:, k - 1].astype(np.int32)
    counts = np.bincount(labels, minlength=layout.labels[-1])
    wrong = np.flatnonzero(counts != layout.per_class[split])
    if wrong.size:
      raise ValueError(
        f'{source}: {", ".join(names)}: class {wrong[0]} has '
        f'{counts[wrong[0]]} examples, expected {layout.per_class[split]}'
      )
    planes = rows[:, k:].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    splits[split] = {'image': images, 'label': labels}
  return splits, _sha256(files)


def _parse(layout: Layout, label: str, content: bytes) -> np.ndarray:
  rows = np.frombuffer(content, np.uint8)
  rows = rows.reshape(-1, len(layout.labels) + _PIXELS)
  for byte, limit in enumerate(layout.labels):
    wrong = np.flatnonzero(rows[:, byte] >= limit)
    if wrong.size:
      raise ValueError(
        f'{label}: record {wrong[0]} has label {rows[wrong[0], byte]} in byte '
        f'{byte}, expected 0..{limit - 1}'
      )
  return rows


def _read_files(layout: Layout, source: pathlib.Path) -> dict[str, bytes]:
  if source.is_dir():
    return {
      path.name: _read_file(path, layout.sizes()[path.name])
      for path in _paths(layout, source)
    }
  if not source.is_file():
    raise FileNotFoundError(
      f'{source} (config.data.source or {layout.variable}) does not exist'
    )
  try:
    return _read_archive(layout, source)
  # tarfile: ValueError and OverflowError for numbers that cannot be.
  except (
    tarfile.TarError,
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
    OverflowError,
  ) as error:
    raise ValueError(
      f'{source} is not a whole .tar.gz archive: {error}'
    ) from error


def _read_file(path: pathlib.Path, size: int) -> bytes:
  if not path.is_file():
    raise FileNotFoundError(f'{path} does not exist')
  _check_size(path, path.stat().st_size, size)
  return path.read_bytes()


def _read_archive(layout: Layout, source: pathlib.Path) -> dict[str, bytes]:
  # Members are read, never extracted: names and links in the archive cannot
  # lead anywhere.
  wanted = {f'{layout.folder}/{n}': n for n in layout.sizes()}
  files = {}
  with gzip.open(source) as inflated:
    limit = sum(layout.sizes().values()) + _SLACK
    stream: Any = inputs.Bounded(inflated, limit, str(source))
    with tarfile.open(fileobj=stream, mode='r|') as archive:
      for member in archive:
        name = wanted.get(member.name)
        if name is None:
          continue
        label = f'{source}: {member.name}'
        if not member.isreg() or name in files:
          raise ValueError(f'{label}: expected one plain file of that name')
        _check_size(label, member.size, layout.sizes()[name])
        extracted = archive.extractfile(member)
        assert extracted is not None
        files[name] = extracted.read()
    # gzip checks its sums at the end of the stream, past the last member.
    while stream.read(1 << 20):
      pass
  missing = [member for member, name in wanted.items() if name not in files]
  if missing:
    raise ValueError(f'{source} has no {missing[0]}: not {layout.url}?')
  return files


def _check_size(path, found: int, expected: int):
  if found != expected:
    raise ValueError(f'{path} has {found} bytes, expected {expected}')


def _paths(layout: Layout, source: pathlib.Path) -> list[pathlib.Path]:
  """What is read of a source: the archive itself, or files of the folder."""
  if not source.is_dir():
    return [source]
  folder = source / layout.folder
  folder = folder if folder.is_dir() else source
  return [folder / name for name in layout.sizes()]


def source_sha256(
  layout: Layout, source: str | os.PathLike[str]
) -> dict[str, str]:
  """File name to sha256, the same for a folder and for an archive of it."""
  source = pathlib.Path(source).expanduser()
  times = [p.stat().st_mtime_ns for p in _paths(layout, source) if p.exists()]
  return _sha256s(layout.name, source, tuple(times))


@functools.lru_cache(maxsize=4)
def _sha256s(name, source, times):
  del times  # only so that a changed file is read again
  return _sha256(_read_files(LAYOUTS[name], source))


def _sha256(files: dict[str, bytes]) -> dict[str, str]:
  return {
    n: hashlib.sha256(content).hexdigest() for n, content in files.items()
  }
