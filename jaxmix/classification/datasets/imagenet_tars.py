"""ImageNet of 2012 from its publisher's two archives, without TensorFlow.

  python -m jaxmix.classification.datasets.imagenet_tars SOURCE DIR

SOURCE is a folder with ILSVRC2012_img_train.tar (a tar of a thousand tars),
ILSVRC2012_img_val.tar, and the classes of its 50,000 photographs:
imagenet_2012_validation_synset_labels.txt, one a line, in the order of their
numbers. What `imagenet` reads is written to DIR/imagenet2012/1.0.0: the files
as they are, shuffled by a key that never changes, so that the first N are a
random sample. A class is the place of its name among all, sorted.

The archives are not unpacked: they are looked through once, and then each
photograph is read where it lies, a file of records at a time (256 MB of
memory). Until all is written, nothing is there; what was interrupted begins
anew.
"""

import argparse
import contextlib
import hashlib
import io
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxmix.classification.datasets import imagenet_source, jpeg, writer
from jaxmix.classification.datasets.archives import imagenet_index

VERSION = '1.0.0'
_PNG = b'\x89PNG\r\n\x1a\n'
_SLACK = 2**26  # bytes that the set may be larger than its photographs


class PhotoSet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Writes photographs in a fixed random order, with tfds' own features."""

  VERSION = tfds.core.Version(VERSION)

  def __init__(
    self, splits: dict[str, imagenet_index.Photos], classes, **kwargs
  ):
    """Takes where the photographs lie, and the names of the classes."""
    self.name = imagenet_source.NAME  # pyright: ignore
    self._splits, self._classes = splits, classes
    super().__init__(**kwargs)

  def _info(self) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'image': tfds.features.Image(encoding_format='jpeg'),
          'label': tfds.features.ClassLabel(names=self._classes),
          'file_name': tfds.features.Text(),
        }
      ),
      disable_shuffling=True,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    return {
      split: self._generate_examples(photos)
      for split, photos in self._splits.items()
    }

  def _generate_examples(self, photos: imagenet_index.Photos):
    order = shuffle(photos.names)
    with photos.path.open('rb') as stream:
      end = 0
      for length in file_lengths(photos):
        start, end = end, end + length
        shard = order[start:end]
        # In the order in which they lie: disks that turn want no jumping back.
        near = shard[np.argsort(photos.offsets[shard])]
        contents = {i: photos.read(stream, i) for i in near.tolist()}
        for i in shard.tolist():
          name = photos.names[i]
          try:
            content = as_jpeg(contents.pop(i))
          except ValueError as error:
            raise ValueError(f'{photos.path}: {name}: {error}') from error
          yield {
            'image': io.BytesIO(content),
            'label': int(photos.labels[i]),
            'file_name': name,
          }

  def _download_and_prepare(self, dl_manager, download_config):
    del download_config
    infos = []
    for split, examples in self._split_generators(dl_manager).items():
      lengths = file_lengths(self._splits[split])
      infos.append(
        writer.write_split(self, split, examples, lengths, packed=False)
      )
    splits = tfds.core.splits.SplitDict(infos)  # pyright: ignore
    self.info.set_splits(splits)


def file_lengths(photos: imagenet_index.Photos) -> list[int]:
  """How many photographs go into each file."""
  count = len(photos.names)
  files = -(-int(photos.sizes.sum()) // writer.FILE)
  return writer.even(count, min(files, count))


def shuffle(names: Sequence[str]) -> np.ndarray:
  """A random order that depends on the names alone, int64 `[N]`.

  >>> shuffle(['a', 'b', 'c', 'd']).tolist()
  [3, 2, 1, 0]
  """
  keys = [hashlib.sha256(name.encode()).digest() for name in names]
  return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def as_jpeg(content: bytes) -> bytes:
  """A file as it is if it is a JPEG; one of ImageNet's is a PNG by that name.

  Raises:
    ValueError: it is neither, or broken.
  """
  if not content.startswith(_PNG):
    jpeg.read_frame(content)
    return content
  made = io.BytesIO()
  try:
    image = Image.open(io.BytesIO(content), formats=['PNG']).convert('RGB')
    image.save(made, 'JPEG', quality=100, subsampling='4:4:4')
  except (OSError, SyntaxError, Image.DecompressionBombError) as error:
    raise ValueError(f'a PNG that is broken: {error}') from error
  return made.getvalue()


def prepare(
  source: pathlib.Path,
  data_dir: pathlib.Path,
  layout: imagenet_index.Layout = imagenet_index.LAYOUT,
) -> pathlib.Path:
  """Writes the data set; returns its folder.

  Raises:
    FileNotFoundError: an archive, or the list of classes, is not there.
    FileExistsError: the set is there.
    ValueError: what is there is not as published.
    OSError: there is no room.
  """
  folder = data_dir / imagenet_source.NAME / VERSION
  if folder.exists():
    raise FileExistsError(f'{folder} is there: remove it to have it made again')
  train_path, test_path, labels_path = paths = [
    source / name for name in (layout.train, layout.validation, layout.labels)
  ]
  for path in paths:
    if not path.is_file():
      raise FileNotFoundError(
        f'{path} does not exist (docs/imagenet.md says where it comes from)'
      )
  train, classes = imagenet_index.index_train(train_path, layout)
  validation = imagenet_index.index_validation(
    test_path, labels_path, classes, layout
  )
  data_dir.mkdir(parents=True, exist_ok=True)
  wanted = int(train.sizes.sum() + validation.sizes.sum()) + _SLACK
  free = shutil.disk_usage(data_dir).free
  if free < wanted:
    raise OSError(f'{data_dir} has {free} bytes left, {wanted} are needed')
  with tempfile.TemporaryDirectory(
    prefix=f'.{imagenet_source.NAME}_', dir=data_dir
  ) as work:
    splits = {'train': train, 'validation': validation}
    builder: Any = PhotoSet(
      splits, classes, data_dir=work, file_format='array_record'
    )
    with contextlib.redirect_stdout(None):  # it tells of the work folder
      builder.download_and_prepare()
    folder.parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(builder.data_dir).rename(folder)
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
