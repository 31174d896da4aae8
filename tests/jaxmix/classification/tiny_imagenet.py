"""A prepared ImageNet of a few JPEG images, in tfds' own format."""

import contextlib
import io
import pathlib

import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

from tests.jaxmix.classification import photos

TRAIN, TEST, CLASSES = 40, 11, 4


def files(split):
  """Returns JPEG files and labels of a split, also grey and CMYK ones."""
  count, seed = {'train': (TRAIN, 0), 'validation': (TEST, 1000)}[split]
  made = photos.some(count, seed)
  made[3] = photos.encode(photos.cut(3, 310, 400), 'L')
  made[5] = photos.encode(photos.cut(5, 350, 333), 'CMYK')
  return [(data, i % CLASSES) for i, data in enumerate(made)]


def prepare(root, splits, file_format='array_record', shards=None, label=None):
  """Writes `{split: [(file, label)]}` below `root`; returns the folder."""
  with registered.skip_registration():

    class Imagenet2012(tfds.core.GeneratorBasedBuilder):
      VERSION = tfds.core.Version('5.1.0')

      def _info(self):
        return tfds.core.DatasetInfo(
          builder=self,
          features=tfds.features.FeaturesDict(
            {
              'image': tfds.features.Image(encoding_format='jpeg'),
              'label': label or tfds.features.ClassLabel(num_classes=1000),
              'file_name': tfds.features.Text(),
            }
          ),
          disable_shuffling=True,
        )

      def _split_generators(self, dl_manager):
        return {name: self._generate_examples(name) for name in splits}

      def _generate_examples(self, split):
        for i, (data, label) in enumerate(splits[split]):
          yield (
            i,
            {
              'image': io.BytesIO(data),
              'label': label,
              'file_name': f'n{label:08}_{i}.JPEG',
            },
          )

  builder = Imagenet2012(data_dir=root, file_format=file_format)
  tfds.disable_progress_bar()
  with contextlib.redirect_stdout(None):
    builder.download_and_prepare(
      download_config=tfds.download.DownloadConfig(num_shards=shards)
    )
  return pathlib.Path(builder.data_dir)
