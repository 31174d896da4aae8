"""CIFAR-10 and CIFAR-100 as ArrayRecord files, prepared without TensorFlow.

The publisher's own archive (binary version) is read, checked and written once
as a TFDS data set, `<data.dir>/jaxmix_cifar/<name>/1.0.0`, with a `jaxmix.json`
beside the records: the sha256 of the files it came from, of every shard and of
the arrays of each split. `find` says where a data set is looked for.

Folders are local (or mounted) paths: the last step of a preparation is a
rename, so that a set is either whole or not there, whoever is interrupted and
however many processes prepare it at once. (Killed outright, one leaves a folder
`.jaxmix_cifar_*` in `data.dir` that nobody reads; remove it.)
"""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import json
import operator
import os
import pathlib
import sys
import tarfile
import tempfile
import urllib.request
import uuid
import zlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

VERSION = '1.0.0'
RECORD = 'jaxmix.json'
SHAPE = (32, 32, 3)
_PIXELS = 32 * 32 * 3


@dataclasses.dataclass(frozen=True)
class Layout:
  """The publisher's binary version of a data set.

  A file is a run of records: label bytes, the class last, then the red, green
  and blue planes of 32x32.

  Attributes:
    name: of the data set, tfds' name too.
    url: of the archive.
    md5: of the archive, as published.
    variable: environment variable that may hold the path of the source.
    folder: the only folder of the archive.
    files: split to its files, in order.
    labels: number of values of each label byte; the last are the classes.
    per_class: split to examples of each class.
  """

  name: str
  url: str
  md5: str
  variable: str
  folder: str
  files: dict[str, tuple[str, ...]]
  labels: tuple[int, ...]
  per_class: dict[str, int]

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
    md5='c32a1d4ab5d03f1284b67883e8d87530',
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
    md5='03b5dce01913d631647c71ecec9e9cb8',
    variable='JAXMIX_CIFAR100',
    folder='cifar-100-binary',
    files={'train': ('train.bin',), 'test': ('test.bin',)},
    labels=(20, 100),  # coarse, fine
    per_class={'train': 500, 'test': 100},
  ),
}


# --- The publisher's files ---


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
  except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
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
  with gzip.open(source) as stream:
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


def fetch(layout: Layout, folder: pathlib.Path) -> pathlib.Path:
  """Downloads the publisher's archive into `folder`, once.

  Raises:
    ConnectionError: no network, or it broke off.
    ValueError: what arrived does not have the published md5.
  """
  target = folder / layout.url.rpartition('/')[2]
  if target.exists():
    _check_md5(layout, target)
    return target
  folder.mkdir(parents=True, exist_ok=True)
  # A name of its own until it is whole and checked.
  part = folder / f'.{target.name}.{uuid.uuid4().hex}'
  try:
    _download(layout.url, part)
    _check_md5(layout, part)
    part.rename(target)
  except OSError as error:
    raise ConnectionError(
      f'could not fetch {layout.url}: {error}. Fetch it elsewhere and set '
      f'config.data.source (or {layout.variable}) to it'
    ) from error
  finally:
    part.unlink(missing_ok=True)
  return target


def _download(url: str, path: pathlib.Path):
  with (
    path.open('wb') as out,
    urllib.request.urlopen(url, timeout=60) as stream,
  ):
    size = int(stream.headers.get('Content-Length') or 0) or None
    with tqdm(desc=url, total=size, unit='B', unit_scale=True) as progress:
      while chunk := stream.read(1 << 20):
        out.write(chunk)
        progress.update(len(chunk))


def _check_md5(layout: Layout, path: pathlib.Path):
  md5 = _file_digest(path, 'md5')
  if md5 != layout.md5:
    raise ValueError(
      f'{path} (from {layout.url}) has md5 {md5}, expected {layout.md5}'
    )


def _file_digest(path: pathlib.Path, algorithm: str) -> str:
  with path.open('rb') as stream:
    return hashlib.file_digest(stream, algorithm).hexdigest()


class JaxmixCifar(tfds.core.GeneratorBasedBuilder):
  """Both data sets, as the configs `cifar10` and `cifar100`.

  Its name is not tfds' own, whose builders need TensorFlow to prepare and
  store PNG. Records keep the publisher's order.
  """

  VERSION = tfds.core.Version(VERSION)
  BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in LAYOUTS]

  def __init__(self, *, splits=None, **kwargs):
    """Takes the splits of `read_source`, to prepare; nothing, to read."""
    self._splits = splits or {}
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    assert self.builder_config is not None
    classes = LAYOUTS[self.builder_config.name].labels[-1]
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Tensor(
            shape=SHAPE, dtype=np.uint8, encoding='bytes'
          ),
          'label': tfds.features.ClassLabel(num_classes=classes),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      name: self._generate_examples(**arrays)
      for name, arrays in self._splits.items()
    }

  def _generate_examples(self, image, label):
    for i in range(len(label)):
      yield i, {'image': image[i], 'label': int(label[i])}


# --- Finding and preparing ---


def find(
  name: str, *, data_dir: str, source: str, download: bool
) -> pathlib.Path:
  """Returns the folder of a prepared data set, preparing it if need be.

  Looked at in this order:

  1. our own prepared set in `data_dir`; with a `source`, only if it was made
     from the very same files, anything else is an error;
  2. without a `source`: tfds' own `cifar10` or `cifar100` in `data_dir`, if it
     is stored as ArrayRecord (tfds' default, TFRecord, needs TensorFlow);
  3. `source`, else the path in JAXMIX_CIFAR10 or JAXMIX_CIFAR100: the archive,
     the folder in it, or the folder around that one;
  4. with `download`, the publisher's archive.

  Args:
    name: 'cifar10' or 'cifar100'.
    data_dir: `config.data.dir`; empty for $TFDS_DATA_DIR, else
      ~/tensorflow_datasets.
    source: `config.data.source`, may be empty.
    download: `config.data.download`.

  Raises:
    FileNotFoundError: none of these; says what to do.
    ValueError: what is there is not the data set, or not that of `source`.
    ConnectionError: the archive could not be fetched.
  """
  layout = LAYOUTS[name]
  root = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  root = pathlib.Path(root).expanduser()
  folder = root / JaxmixCifar.name / name / VERSION
  if folder.exists():
    if source:
      _check_same_source(folder, source, source_sha256(layout, source))
    return folder
  tfds_own = sorted(root.glob(f'{name}/[0-9]*/dataset_info.json'))
  if not source:
    for path in reversed(tfds_own):
      if json.loads(path.read_text()).get('fileFormat') == 'array_record':
        return path.parent
  path = source or os.environ.get(layout.variable)
  if not path and download:
    path = fetch(layout, root / 'downloads')
  if path:
    return prepare(layout, path, folder)
  raise FileNotFoundError(
    f'{name} is not in {root}. Fetch {layout.url} and set config.data.source '
    f'(or the environment variable {layout.variable}) to it or to the folder '
    'it unpacks to, or set config.data.download=True to have it fetched; '
    'config.data.dir names the folder of sets prepared before.'
    + (f' ({tfds_own[-1].parent} is not ArrayRecord.)' if tfds_own else '')
  )


def prepare(
  layout: Layout, source: str | os.PathLike[str], folder: pathlib.Path
) -> pathlib.Path:
  """Checks the publisher's files and writes them to `folder` (about 10 s).

  Raises:
    FileNotFoundError, ValueError: see `read_source`.
  """
  tqdm.write(f'Preparing {folder} from {source}', file=sys.stderr)
  splits, sha256 = read_source(layout, source)
  root = folder.parents[2]
  root.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    prefix=f'.{JaxmixCifar.name}_', dir=root
  ) as work:
    builder = JaxmixCifar(
      splits=splits,
      config=layout.name,
      data_dir=work,
      file_format='array_record',
    )
    with contextlib.redirect_stdout(None):  # it tells of the work folder
      builder.download_and_prepare()
    made = pathlib.Path(builder.data_dir)
    record = {
      'name': layout.name,
      'source': sha256,
      'splits': {
        split: {'examples': len(a['label']), 'sha256': _arrays_sha256(a)}
        for split, a in splits.items()
      },
      'shards': {
        path.name: {
          'bytes': path.stat().st_size,
          'sha256': _file_digest(path, 'sha256'),
        }
        for path in sorted(made.glob('*.array_record-*'))
      },
    }
    (made / RECORD).write_text(json.dumps(record, indent=2) + '\n')
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
      made.rename(folder)
    except OSError:
      # Another process was first; a rename cannot replace a filled folder.
      if not folder.exists():
        raise
      _check_same_source(folder, source, sha256)
  return folder


def _read_record(folder: pathlib.Path) -> dict[str, Any]:
  path = folder / RECORD
  try:
    record = json.loads(path.read_text())
    return {key: record[key] for key in ('source', 'splits', 'shards')}
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path} is missing or broken ({error!r}): remove {folder} to have it '
      'prepared again'
    ) from error


def _check_same_source(folder: pathlib.Path, source, sha256: dict[str, str]):
  made_from = _read_record(folder)['source']
  if made_from != sha256:
    raise ValueError(
      f'config.data.source={str(source)!r} is not what {folder} was prepared '
      f'from: sha256 {sha256}, there {made_from}. Remove that folder, choose '
      'another config.data.dir, or leave config.data.source empty'
    )


# --- Reading ---


@dataclasses.dataclass(frozen=True)
class RecordSource:
  """Random access to one split on disk; `open_split` makes it.

  Attributes:
    folder: of the prepared data set.
    records: random access to serialised examples.
    features: decodes tfds' own records; None for ours.
    indices: the examples to show, ascending; None for all.
  """

  folder: pathlib.Path
  records: Any
  features: Any
  indices: np.ndarray | None = None

  def __len__(self) -> int:
    return len(self.records if self.indices is None else self.indices)

  def __getitem__(self, index: int, /) -> dict[str, Any]:
    return self._decode(self._read(self.records.__getitem__, self._key(index)))

  def __getitems__(self, indices: Any, /) -> list[dict[str, Any]]:
    keys = [self._key(index) for index in indices]
    if not keys:
      return []
    records = self._read(self.records.__getitems__, keys)
    return [self._decode(record) for record in records]

  def _key(self, index) -> int:
    # The range counts negative indices from the end and knows its bounds.
    key = range(len(self))[operator.index(index)]
    return key if self.indices is None else int(self.indices[key])

  def _read(self, read, keys):
    try:
      return read(keys)
    except RuntimeError as error:  # array_record's; seldom names the file
      if self.features is None:
        _check_shards(self.folder)
      raise ValueError(f'{self.folder} cannot be read: {error}') from error

  def _decode(self, record: bytes) -> dict[str, Any]:
    if self.features is not None:
      example = self.features.deserialize_example_np(record)
      return {'image': example['image'], 'label': np.int32(example['label'])}
    # By hand: tfds' own way takes 4 s for 50,000 examples, this half a second.
    example = tf_example_pb2.Example()  # pyright: ignore
    feature = example.FromString(record).features.feature
    image = np.frombuffer(feature['image'].bytes_list.value[0], np.uint8)
    return {
      'image': image.reshape(SHAPE),
      'label': np.int32(feature['label'].int64_list.value[0]),
    }


def open_split(folder: pathlib.Path, name: str, split: str) -> RecordSource:
  """Opens a split of a folder that `find` returned.

  Raises:
    ValueError: a shard is missing or has another size, or the number of
      examples is not that of the data set.
  """
  builder: Any = tfds.builder_from_directory(folder)
  for path in builder.info.splits[split].filepaths:
    _size(pathlib.Path(path))
  ours = builder.name == JaxmixCifar.name
  if ours:
    _check_shards(folder, sums=False)
  records = builder.as_data_source(
    split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )
  if len(records) != (expected := LAYOUTS[name].examples(split)):
    raise ValueError(
      f'{folder} has {len(records)} {split} examples, expected {expected}'
    )
  return RecordSource(folder, records, None if ours else builder.info.features)


def load_split(
  folder: pathlib.Path, name: str, split: str
) -> dict[str, np.ndarray]:
  """Reads a split into RAM: {'image': [N, 32, 32, 3], 'label': [N]}.

  Raises:
    ValueError: as `open_split`; or, for a set that we prepared, the arrays are
      not those that were prepared.
  """
  source = open_split(folder, name, split)
  images = np.empty((len(source), *SHAPE), np.uint8)
  labels = np.empty(len(source), np.int32)
  block = 5000  # keeps the records' own memory small
  for start in range(0, len(source), block):
    keys = range(start, min(start + block, len(source)))
    for i, example in zip(keys, source.__getitems__(keys), strict=True):
      images[i], labels[i] = example['image'], example['label']
  arrays = {'image': images, 'label': labels}
  if source.features is None:
    wanted = _read_record(folder)['splits'][split]['sha256']
    if _arrays_sha256(arrays) != wanted:
      _check_shards(folder)
      raise ValueError(f'{folder}: {split} is not what {RECORD} says of it')
  return arrays


def _check_shards(folder: pathlib.Path, sums: bool = True):
  """Raises ValueError naming the first shard that is not as prepared."""
  for name, wanted in _read_record(folder)['shards'].items():
    path = folder / name
    size = _size(path)
    if size != wanted['bytes'] or (
      sums and _file_digest(path, 'sha256') != wanted['sha256']
    ):
      raise ValueError(
        f'{path} ({size} bytes, expected {wanted["bytes"]}) is not the file '
        f'that was prepared: remove {folder} to prepare it again'
      )


def _size(path: pathlib.Path) -> int:
  if not path.is_file():
    raise ValueError(
      f'{path} is missing: remove {path.parent} to prepare it again'
    )
  return path.stat().st_size


def _arrays_sha256(arrays: dict[str, np.ndarray]) -> str:
  digest = hashlib.sha256(arrays['image'].data)
  digest.update(arrays['label'].astype('<i4').data)
  return digest.hexdigest()
