"""Published data sets as ArrayRecord files, prepared without TensorFlow.

What a module of `published` reads is written once as a TFDS data set,
`<data.dir>/<layout.store>/<name>/1.0.0`, with a `jaxmix.json` beside the
records: the sha256 of the files it came from, of every shard and of the arrays
of each split. `find` says where a data set is looked for.

Folders are local (or mounted) paths: the last step of a preparation is a
rename, so that a set is either whole or not there, whoever is interrupted and
however many processes prepare it at once. (Killed outright, one leaves a folder
`.jaxmix_*` in `data.dir` that nobody reads; remove it.)
"""

import contextlib
import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from jaxmix.classification.datasets import array_records, writer
from jaxmix.classification.datasets.archives import readers
from jaxmix.files import record_sets
from jaxmix.files.atomic import file_fingerprint
from jaxmix.files.download import fetch

VERSION = '1.0.0'


class PreparedSet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Writes the splits of `read_source`, in the publisher's order.

  Its name is not tfds' own, whose builders need TensorFlow to prepare and
  store PNG.
  """

  VERSION = tfds.core.Version(VERSION)

  def __init__(self, layout, splits, **kwargs):
    """Takes the arrays that are written."""
    self.name = layout.store  # pyright: ignore
    self._layout, self._splits = layout, splits
    # Its only one, so that tfds takes it: given as `config`, it warns of it.
    self.BUILDER_CONFIGS = [
      tfds.core.BuilderConfig(name=layout.name, version=VERSION)
    ]
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    layout = self._layout
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          layout.feature: tfds.features.Tensor(
            shape=layout.shape,
            dtype=np.dtype(layout.dtype).type,
            encoding='bytes',
          ),
          'label': tfds.features.ClassLabel(num_classes=layout.classes),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      name: self._generate_examples(arrays)
      for name, arrays in self._splits.items()
    }

  def _download_and_prepare(self, dl_manager, download_config):
    del download_config
    generators = self._split_generators(dl_manager)
    infos = []
    for split, arrays in self._splits.items():
      count = len(arrays['label'])
      size = arrays[self._layout.feature].nbytes
      files = min(count, -(-size // writer.FILE))
      lengths = writer.even(count, files)
      infos.append(writer.write_split(self, split, generators[split], lengths))
    splits = tfds.core.splits.SplitDict(infos)  # pyright: ignore
    self.info.set_splits(splits)

  def _generate_examples(self, arrays):
    feature = self._layout.feature
    for i, label in enumerate(arrays['label']):
      yield {feature: arrays[feature][i], 'label': int(label)}


def find(
  name: str, *, data_dir: str, source: str, download: bool
) -> pathlib.Path:
  """Returns the folder of a prepared data set, preparing it if need be.

  Looked at in this order:

  1. our own prepared set in `data_dir`; with a `source`, only if it was made
     from the very same files, anything else is an error;
  2. without a `source`: a set of tfds' own of that name in `data_dir`, if it
     is stored as ArrayRecord (tfds' default, TFRecord, needs TensorFlow);
  3. `source`, else the path in `layout.variable`, JAXMIX_CIFAR10: the archive,
     the folder in it, or the folder around that one;
  4. with `download`, the publisher's archive.

  Args:
    name: of the data set, one of `published`.
    data_dir: `config.data.dir`; empty for $TFDS_DATA_DIR, else
      ~/tensorflow_datasets.
    source: `config.data.source`, may be empty.
    download: `config.data.download`.

  Raises:
    FileNotFoundError: none of these; says what to do.
    ValueError: what is there is not the data set, or not that of `source`.
    ConnectionError: the archive could not be fetched.
  """
  layout, reader = readers.layout(name), readers.READERS[name]
  root = find_root(data_dir)
  folder = root / layout.store / name / VERSION
  remark = ''
  if folder.exists():
    if source:
      _check_same_source(folder, source, reader.source_sha256(layout, source))
    return folder
  if not source:
    tfds_own, remark = record_sets.find_newest(root, name)
    if tfds_own:
      return tfds_own
  path = source or os.environ.get(layout.variable)
  if not path and download and layout.checksum:
    path = fetch(layout, root / 'downloads')
  if path:
    return prepare(layout, path, folder)
  others = sorted(path.name for path in folder.parent.glob('*'))
  if others:
    remark = f' ({folder.parent} has {", ".join(others)}, not {VERSION}.)'
  # Without a published checksum nothing is fetched by itself.
  fetched = ', or set --config.data.download=True to have it fetched'
  fetched = fetched if layout.checksum else ''
  raise FileNotFoundError(
    f'{name} is not in {root}: there is no {folder.relative_to(root)}. To have '
    f'it made, fetch {layout.url} and set --config.data.source (or the '
    f'environment variable {layout.variable}) to it or to the folder it '
    f'unpacks to{fetched}; --config.data.dir names the folder of sets prepared '
    f'before.{remark}'
  )


def find_root(data_dir: str) -> pathlib.Path:
  """The folder of all data sets, where `config.data.dir` is `data_dir`."""
  root = data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets'
  return pathlib.Path(root).expanduser()


def prepare(
  layout: readers.Layout,
  source: str | os.PathLike[str],
  folder: pathlib.Path,
) -> pathlib.Path:
  """Checks the publisher's files and writes them to `folder`.

  CIFAR takes about 10 s, Tiny-ImageNet a minute.

  Raises:
    FileNotFoundError, ValueError: see `read_source`.
  """
  tqdm.write(f'Preparing {folder} from {source}', file=sys.stderr)
  splits, sha256 = readers.READERS[layout.name].read_source(layout, source)
  root = folder.parents[2]
  root.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    prefix=f'.{layout.store}_', dir=root
  ) as work:
    builder = PreparedSet(
      layout, splits, data_dir=work, file_format='array_record'
    )
    with contextlib.redirect_stdout(None):  # it tells of the work folder
      builder.download_and_prepare()
    made = pathlib.Path(builder.data_dir)
    record = {
      'name': layout.name,
      'source': sha256,
      'splits': {
        split: {
          'examples': len(a['label']),
          'sha256': array_records.arrays_sha256(a),
        }
        for split, a in splits.items()
      },
      'shards': {
        path.name: {
          'bytes': path.stat().st_size,
          'sha256': file_fingerprint(path),
        }
        for path in sorted(made.glob('*.array_record-*'))
      },
    }
    (made / array_records.RECORD).write_text(
      json.dumps(record, indent=2) + '\n'
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
      made.rename(folder)
    except OSError:
      # Another process was first; a rename cannot replace a filled folder.
      if not folder.exists():
        raise
      _check_same_source(folder, source, sha256)
  return folder


def _check_same_source(folder: pathlib.Path, source, sha256: dict[str, str]):
  made_from = array_records.read_record(folder)['source']
  if made_from != sha256:
    raise ValueError(
      f'config.data.source={str(source)!r} is not what {folder} was prepared '
      f'from: sha256 {sha256}, there {made_from}. Remove that folder, choose '
      'another config.data.dir, or leave config.data.source empty'
    )
