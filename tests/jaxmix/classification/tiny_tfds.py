"""A cifar100 in tfds' own format, of given examples."""

import contextlib
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from tests.jaxmix.classification import tiny_cifar


def examples():
  """Returns split to the arrays of `tiny_cifar`."""
  return {
    split: tiny_cifar.arrays(records)
    for split, records in tiny_cifar.rows(3).items()
  }


def prepare(root, splits=None, *, label=None, file_format='array_record'):
  """Writes `{split: {'image', 'label'}}` below `root`; returns the folder.

  Args:
    root: `config.data.dir`.
    splits: arrays of any dtype and shape; None for `examples()`.
    label: the feature; None for a number of the array's dtype.
    file_format: of tfds.
  """
  splits = splits or examples()
  images, labels = splits['train']['image'], splits['train']['label']
  features = {
    'image': tfds.features.Tensor(
      shape=images.shape[1:], dtype=images.dtype, encoding='bytes'
    ),
    'label': label or tfds.features.Scalar(labels.dtype),
  }

  class Cifar100(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version('3.0.2')

    def _info(self):
      return tfds.core.DatasetInfo(
        builder=self,
        features=tfds.features.FeaturesDict(features),
        disable_shuffling=True,
      )

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, split):
      for i, (image, label) in enumerate(
        zip(splits[split]['image'], splits[split]['label'], strict=True)
      ):
        yield i, {'image': image, 'label': label}

  builder = Cifar100(data_dir=root, file_format=file_format)
  tfds.disable_progress_bar()
  with contextlib.redirect_stdout(None):
    builder.download_and_prepare()
  return pathlib.Path(builder.data_dir)


def changed(index=None, value=0, **arrays):
  """Returns `examples()` with other train arrays, or another label."""
  made = examples()
  made['train'] |= arrays
  if index is not None:
    labels = made['train']['label'].astype(np.int64)
    labels[index] = value
    made['train']['label'] = labels
  return made
