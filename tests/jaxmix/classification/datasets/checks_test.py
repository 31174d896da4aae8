import types

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxmix.classification.datasets import array_records, checks, splits
from tests.jaxmix.classification import tiny_tfds

SHAPE, CLASSES = (32, 32, 3), 4


def arrays(**changes):
  return tiny_tfds.changed(**changes)['train']


def test_good_arrays_pass():
  checks.check_arrays('here', arrays(), SHAPE, CLASSES)
  for dtype in 'u1', 'i8', '>i4':
    labels = arrays()['label'].astype(dtype)
    checks.check_arrays('here', arrays(label=labels), SHAPE, CLASSES)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'index': 7, 'value': -1}, r'label -1 of example 7 .* 0\.\.3 \(1 such'),
    ({'index': 7, 'value': 4}, r'label 4 of example 7 .* 0\.\.3'),
    ({'index': slice(3, 9), 'value': 255}, r'label 255 of example 3.*\(6 such'),
    ({'index': [2, 6, 10], 'value': 1}, 'class 2 has 0 examples, .* 4 classes'),
    ({'label': np.zeros(12, 'f4')}, 'labels are float32, expected integers'),
    ({'label': np.zeros(12, bool)}, 'labels are bool'),
    ({'label': np.zeros((12, 4), int)}, r'shape \[12, 4\] for 12 examples'),
    ({'label': np.zeros(11, int)}, r'shape \[11\] for 12 examples'),
    ({'image': np.full((12, 32, 32, 3), np.nan)}, r'float64 .*expected uint8'),
    ({'image': np.zeros((12, 3, 32, 32), 'u1')}, r'\[12, 3, 32, 32\].*32, 3\]'),
    (
      {'image': np.zeros((12, 28, 28, 3), 'u1')},
      r'\[12, 28, 28, 3\], ',
    ),
    ({'image': np.zeros((12, 32, 32, 1), 'u1')}, r'32, 1\], expected'),
    (
      {'image': np.zeros((12, 32, 32), 'u1')},
      r'uint8 \[12, 32, 32\], ',
    ),
  ],
)
def test_what_cannot_be_trained_is_named(changes, message):
  with pytest.raises(ValueError, match=f'^here: .*{message}'):
    checks.check_arrays('here', arrays(**changes), SHAPE, CLASSES)


def test_classes_have_so_many_examples_each():
  labels = np.array([0, 1, 2, 3, 0, 1, 2, 3, 3])
  checks.check_labels('here', labels, 4)
  checks.check_labels('here', labels[:-1], 4, 2)
  with pytest.raises(ValueError, match='class 3 has 3 examples, expected 2'):
    checks.check_labels('here', labels, 4, 2)


def features(image=None, **others):
  image = image or tfds.features.Tensor(shape=SHAPE, dtype=np.uint8)
  return {'image': image} | others


def number(dtype):
  return tfds.features.Scalar(dtype)


@pytest.mark.parametrize(
  'described, message',
  [
    (features(), r"the features \['image'\]: expected 'image' and 'label'"),
    (features(label=number(np.float32)), r"'label' is float32 \[\], expected"),
    (
      features(label=tfds.features.Tensor(shape=(2,), dtype=np.int64)),
      r"'label' is int64 \[2\]",
    ),
    (
      features(label=tfds.features.ClassLabel(num_classes=10)),
      "'label' has 10 classes, the network has 4",
    ),
    (
      features(
        tfds.features.Tensor(shape=SHAPE, dtype=np.float32),
        label=number(np.int64),
      ),
      r"'image' is float32 \[32, 32, 3\], expected uint8 \[32, 32, 3\]",
    ),
    (
      features(tfds.features.Image(shape=(32, 32, 1)), label=number(np.int64)),
      r"'image' is uint8 \[32, 32, 1\]",
    ),
  ],
)
def test_descriptions_that_do_not_fit(described, message):
  with pytest.raises(ValueError, match=message):
    checks.check_features('here', described, SHAPE, CLASSES)


def test_descriptions_that_fit():
  for label in number(np.uint8), tfds.features.ClassLabel(num_classes=4):
    checks.check_features('here', features(label=label), SHAPE, CLASSES)
  photographs = features(tfds.features.Image(), label=number(np.int64))
  checks.check_features('here', photographs, (None, None, 3), CLASSES)


# --- Where they are asked ---


@pytest.mark.parametrize(
  'read', [array_records.load_split, array_records.open_split]
)
@pytest.mark.parametrize('value', [-1, 4, 255])
def test_a_label_of_a_set_of_tfds(tiny, tmp_path, read, value):
  folder = tiny_tfds.prepare(tmp_path, tiny_tfds.changed(7, value))
  with pytest.raises(ValueError, match=rf'label {value} .*0\.\.3') as error:
    read(folder, 'cifar100', 'train')
  assert 'example 7' in str(error.value)


@pytest.mark.parametrize(
  'read', [array_records.load_split, array_records.open_split]
)
def test_the_classes_of_a_set_of_tfds(tiny, tmp_path, read):
  folder = tiny_tfds.prepare(tmp_path, tiny_tfds.changed(7, 2))
  with pytest.raises(ValueError, match='class 2 has 4 examples, expected 3'):
    read(folder, 'cifar100', 'train')
  label = tfds.features.ClassLabel(num_classes=100)
  folder = tiny_tfds.prepare(tmp_path / 'fine', label=label)
  with pytest.raises(ValueError, match='100 classes, the network has 4'):
    read(folder, 'cifar100', 'train')


def test_digits_are_checked(monkeypatch, data_config):
  whole = splits.load(data_config(), 'train')
  labels = whole['label'].copy()
  labels[100] = 10
  digits = types.SimpleNamespace(load=lambda split: whole | {'label': labels})
  monkeypatch.setattr(splits, 'digits', digits)
  with pytest.raises(ValueError, match='train: label 10 of example 100'):
    splits.load(data_config(), 'train')
