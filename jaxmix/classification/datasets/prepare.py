"""Preparation of published data sets as ArrayRecord files.

A published archive is read once and written as a TFDS data set,
`<data.dir>/<spec.builder>/<name>/1.0.0`, without TensorFlow. `jaxmix.json`
beside its records has the fingerprints (sha256) of the published files, of
every shard and of the arrays of each split.

Folders are local (or mounted) paths: the last step of a preparation is a
rename, so that a set is either complete or absent, whoever is interrupted and
however many processes prepare it at once. (A process that is killed leaves a
folder `.jaxmix_*` in `data.dir`, which nothing reads and may be removed.)
"""

import functools
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from jaxmix.classification.datasets import array_records
from jaxmix.classification.datasets.archives.readers import READERS
from jaxmix.classification.datasets.specs import DATASETS, DatasetSpec
from jaxmix.files import record_sets, record_writer
from jaxmix.files.archives import find_folder
from jaxmix.files.atomic import file_fingerprint
from jaxmix.files.download import fetch

VERSION = '1.0.0'


def find(
  name: str, *, data_dir: str, source: str, download: bool
) -> pathlib.Path:
  """Returns the folder of a prepared data set; prepares it if necessary.

  It is looked for in this order:

  1. our own prepared set in `data_dir`; with a `source`, it must have been
     prepared from the same files, anything else is an error;
  2. without a `source`: tfds' own set of that name in `data_dir`, if it is
     stored as ArrayRecord (TFRecord, the default of tfds, needs TensorFlow);
  3. `source`, else the path in `$JAXMIX_<NAME>`: the archive, the folder in it,
     or the folder around that one;
  4. with `download`, the publisher's archive.

  Args:
    name: of the data set, a key of `READERS`.
    data_dir: `config.data.dir`; empty for $TFDS_DATA_DIR, else
      ~/tensorflow_datasets.
    source: `config.data.source`, may be empty.
    download: `config.data.download`.

  Raises:
    FileNotFoundError: it was found nowhere; says what to do.
    ValueError: the files are not the data set, or not those of `source`.
    ConnectionError: the archive could not be downloaded.
  """
  spec = DATASETS[name]
  root = record_sets.find_root(data_dir)
  folder = root / spec.builder / name / VERSION
  remark = ''
  if folder.exists():
    if source:
      _check_same_source(folder, source, _source_fingerprints(spec, source))
    return folder
  if not source:
    of_tfds, remark = record_sets.find_newest(root, name)
    if of_tfds:
      return of_tfds
  path = source or os.environ.get(spec.env_variable)
  if not path and download and spec.checksum:
    path = _download(spec, root / 'downloads')
  if path:
    return prepare(spec, path, folder)
  others = sorted(path.name for path in folder.parent.glob('*'))
  if others:
    remark = f' ({folder.parent} has {", ".join(others)}, not {VERSION}.)'
  # Without a published checksum a download could not be verified.
  download_hint = ', or set --config.data.download=True to download it'
  download_hint = download_hint if spec.checksum else ''
  raise FileNotFoundError(
    f'{name} is not in {root}: {folder.relative_to(root)} does not exist. Get '
    f'{spec.url} and set --config.data.source (or the environment variable '
    f'{spec.env_variable}) to it or to its unpacked folder{download_hint}; '
    f'--config.data.dir is the folder of sets that were prepared before.'
    f'{remark}'
  )


def _download(spec: DatasetSpec, folder: pathlib.Path) -> pathlib.Path:
  target = folder / spec.url.rpartition('/')[2]
  try:
    return fetch(spec.url, spec.checksum, target)
  except OSError as error:
    raise ConnectionError(
      f'could not download {spec.url}: {error}. Get it elsewhere and set '
      f'config.data.source (or {spec.env_variable}) to it'
    ) from error


def prepare(
  spec: DatasetSpec, source: str | os.PathLike[str], folder: pathlib.Path
) -> pathlib.Path:
  """Checks the publisher's files and writes them to `folder`; returns it.

  CIFAR takes about 10 s, Tiny-ImageNet a minute.

  Raises:
    FileNotFoundError, ValueError: see `Reader.read_source`.
  """
  path = _source_path(spec, source)
  tqdm.write(f'Preparing {folder} from {source}', file=sys.stderr)
  splits, fingerprints = READERS[spec.name].read_source(spec, path)
  root = folder.parents[2]
  root.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    prefix=f'.{spec.builder}_', dir=root
  ) as work:
    written = write_splits(pathlib.Path(work), spec, splits)
    record = {
      'name': spec.name,
      'source': fingerprints,
      'splits': {
        split: {
          'examples': len(arrays['label']),
          'sha256': array_records.arrays_fingerprint(arrays),
        }
        for split, arrays in splits.items()
      },
      'shards': {
        path.name: {
          'bytes': path.stat().st_size,
          'sha256': file_fingerprint(path),
        }
        for path in sorted(written.glob('*.array_record-*'))
      },
    }
    (written / array_records.RECORD).write_text(
      json.dumps(record, indent=2) + '\n'
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
      written.rename(folder)
    except OSError:
      # Another process was first: a rename cannot replace a filled folder.
      if not folder.exists():
        raise
      _check_same_source(folder, source, fingerprints)
  return folder


def write_splits(
  root: pathlib.Path, spec: DatasetSpec, splits: dict[str, dict[str, Any]]
) -> pathlib.Path:
  """Writes arrays as a TFDS data set in the publisher's order.

  The name of the builder is not tfds' own, whose builders need TensorFlow to
  prepare and store PNG.

  Args:
    root: folder of prepared sets.
    spec: of the data set.
    splits: `{split: {'image' or 'audio': [N, ...], 'label': [N]}}`.

  Returns:
    The folder of the set.
  """
  features = tfds.features.FeaturesDict(
    {
      spec.feature: tfds.features.Tensor(
        shape=spec.shape, dtype=np.dtype(spec.dtype).type, encoding='bytes'
      ),
      'label': tfds.features.ClassLabel(num_classes=spec.num_classes),
    }
  )
  return record_writer.write_set(
    root,
    spec.builder,
    VERSION,
    features,
    {
      name: record_writer.Split(
        _examples(spec, arrays),
        record_writer.even_lengths(
          len(arrays['label']), arrays[spec.feature].nbytes
        ),
      )
      for name, arrays in splits.items()
    },
    config_name=spec.name,
  )


def _examples(
  spec: DatasetSpec, arrays: dict[str, np.ndarray]
) -> Iterator[dict[str, Any]]:
  for value, label in zip(arrays[spec.feature], arrays['label'], strict=True):
    yield {spec.feature: value, 'label': int(label)}


def _source_path(
  spec: DatasetSpec, source: str | os.PathLike[str]
) -> pathlib.Path:
  path = pathlib.Path(source).expanduser()
  if not path.exists():
    raise FileNotFoundError(
      f'config.data.source={str(source)!r} (or {spec.env_variable}) does not '
      f'exist: set it to the archive of {spec.url} or to its unpacked folder'
    )
  return path


def _source_fingerprints(spec: DatasetSpec, source: str) -> dict[str, str]:
  """Returns the fingerprints of a source; unchanged files are read once."""
  path = _source_path(spec, source)
  if spec.folder:
    path = find_folder(path, spec.folder)
  files = sorted(path.rglob('*')) if path.is_dir() else [path]
  stats = [file.stat() for file in files if file.exists()]
  stamp = tuple((stat.st_mtime_ns, stat.st_size) for stat in stats)
  return _cached_fingerprints(spec.name, path, stamp)


@functools.lru_cache(maxsize=4)
def _cached_fingerprints(
  name: str, path: pathlib.Path, stamp: tuple[tuple[int, int], ...]
) -> dict[str, str]:
  del stamp  # part of the cache's key, so that a changed file is read again
  return READERS[name].source_fingerprints(DATASETS[name], path)


def _check_same_source(
  folder: pathlib.Path, source: Any, fingerprints: dict[str, str]
) -> None:
  prepared_from = array_records.read_record(folder)['source']
  if prepared_from != fingerprints:
    raise ValueError(
      f'config.data.source={str(source)!r} is not what {folder} was prepared '
      f'from: its sha256 is {fingerprints}, expected {prepared_from}. Remove '
      'that folder, choose another config.data.dir, or leave '
      'config.data.source empty'
    )
