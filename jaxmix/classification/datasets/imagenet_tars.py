"""Command that prepares ImageNet 2012 from its publisher's archives.

  python -m jaxmix.classification.datasets.imagenet_tars SOURCE DIR

SOURCE is a folder with ILSVRC2012_img_train.tar (a tar of a thousand tars),
ILSVRC2012_img_val.tar, and the classes of its 50,000 images:
imagenet_2012_validation_synset_labels.txt, one a line, in the order of their
numbers. The set that `imagenet_source` reads is written to
DIR/imagenet2012/1.0.0: the JPEG files unchanged, shuffled by a fixed key, so
that the first N are a random sample. A label is the index of a class in the
sorted names of all classes.

The archives are not unpacked, and TensorFlow is not needed: the archives are
indexed once, and then each JPEG file is read where it lies, one file of records
at a time (256 MB of memory). The set appears when it is complete; an
interrupted preparation restarts from the beginning.
"""

import argparse
import hashlib
import io
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxmix.classification.datasets.archives import imagenet_index
from jaxmix.classification.datasets.specs import DATASETS, DatasetSpec
from jaxmix.files import record_writer

VERSION = '1.0.0'
_OVERHEAD = 2**26  # bytes by which the set may be larger than its images


def shuffle(names: Sequence[str]) -> np.ndarray:
  """Returns a random order that depends on the names alone, int64 `[N]`.

  >>> shuffle(['a', 'b', 'c', 'd']).tolist()
  [3, 2, 1, 0]
  """
  keys = [hashlib.sha256(name.encode()).digest() for name in names]
  return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def _examples(
  index: imagenet_index.JpegIndex, lengths: list[int]
) -> Iterator[dict[str, Any]]:
  """Yields the examples of a split in shuffled order."""
  order = shuffle(index.names)
  with index.path.open('rb') as stream:
    end = 0
    for length in lengths:
      start, end = end, end + length
      shard = order[start:end]
      # In the order of the archive, because hard disks are slow to seek.
      by_offset = shard[np.argsort(index.offsets[shard])]
      contents = {i: index.read(stream, i) for i in by_offset.tolist()}
      for i in shard.tolist():
        name = index.names[i]
        try:
          content = imagenet_index.as_jpeg(contents.pop(i))
        except ValueError as error:
          raise ValueError(f'{index.path}: {name}: {error}') from error
        yield {
          'image': io.BytesIO(content),
          'label': int(index.labels[i]),
          'file_name': name,
        }


def prepare(
  source: pathlib.Path,
  data_dir: pathlib.Path,
  spec: DatasetSpec = DATASETS['imagenet'],
) -> pathlib.Path:
  """Writes the data set.

  Args:
    source: folder of the archives.
    data_dir: folder of prepared sets.
    spec: of ImageNet.

  Returns:
    The folder of the set.

  Raises:
    FileExistsError: the set exists already.
    FileNotFoundError: an archive is missing.
    ValueError: an archive is not as published.
    OSError: the disk has not enough space.
  """
  folder = data_dir / spec.builder / VERSION
  if folder.exists():
    raise FileExistsError(f'{folder} exists: remove it to prepare it again')
  names = (*spec.files['train'], *spec.files['validation'])
  train_path, test_path, labels_path = paths = [source / name for name in names]
  for path in paths:
    if not path.is_file():
      raise FileNotFoundError(
        f'{path} does not exist (docs/imagenet.md says where to get it)'
      )
  train, classes = imagenet_index.index_train(train_path, spec)
  validation = imagenet_index.index_validation(
    test_path, labels_path, classes, spec
  )
  data_dir.mkdir(parents=True, exist_ok=True)
  needed = int(train.sizes.sum() + validation.sizes.sum()) + _OVERHEAD
  free = shutil.disk_usage(data_dir).free
  if free < needed:
    raise OSError(f'{data_dir} has {free} bytes free, but {needed} are needed')
  features = tfds.features.FeaturesDict(
    {
      'image': tfds.features.Image(encoding_format='jpeg'),
      'label': tfds.features.ClassLabel(names=classes),
      'file_name': tfds.features.Text(),
    }
  )
  splits = {}
  for name, index in ('train', train), ('validation', validation):
    lengths = record_writer.even_lengths(
      len(index.names), int(index.sizes.sum())
    )
    splits[name] = record_writer.Split(_examples(index, lengths), lengths)
  with tempfile.TemporaryDirectory(
    prefix=f'.{spec.builder}_', dir=data_dir
  ) as work:
    written = record_writer.write_set(
      pathlib.Path(work),
      spec.builder,
      VERSION,
      features,
      splits,
      compressed=False,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    written.rename(folder)
  return folder


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m jaxmix.classification.datasets.imagenet_tars',
    description="Prepares ImageNet from its publisher's archives.",
  )
  parser.add_argument('source', type=pathlib.Path, help='folder of the tars')
  parser.add_argument(
    'dir', type=pathlib.Path, help='folder of prepared sets: config.data.dir'
  )
  options = parser.parse_args(arguments)
  try:
    folder = prepare(options.source.expanduser(), options.dir.expanduser())
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(folder)
  return 0


if __name__ == '__main__':
  sys.exit(main())
