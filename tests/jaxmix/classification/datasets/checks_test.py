import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxmix.classification.datasets import checks

SHAPE, CLASSES = (32, 32, 3), 4


def labels(index=None, value=0, dtype='i8'):
  array = np.arange(12) % CLASSES
  if index is not None:
    array[index] = value
  return array.astype(dtype)


@pytest.mark.parametrize('dtype', ['u1', 'i8', '>i4'])
def test_good_labels_pass(dtype):
  checks.check_labels('here', labels(dtype=dtype), CLASSES)
  checks.check_labels('here', labels(dtype=dtype), CLASSES, 3)


@pytest.mark.parametrize(
  'wrong, match',
  [
    (labels(7, -1), r'label -1 of example 7 .*0\.\.3'),
    (labels(7, 4), 'label 4 of example 7'),
    (labels(slice(3, 9), 255), 'label 255 of example 3 .*6'),
    (labels([2, 6, 10], 1), 'class 2 has 0'),
    (labels(dtype='f4'), 'float32'),
    (labels(dtype='?'), 'bool'),
  ],
)
def test_wrong_labels_are_named(wrong, match):
  with pytest.raises(ValueError, match=f'^here: .*{match}'):
    checks.check_labels('here', wrong, CLASSES)


def test_classes_have_the_expected_number_of_examples():
  with pytest.raises(ValueError, match='class 2 has 4'):
    checks.check_labels('here', labels(7, 2), CLASSES, 3)


def test_a_single_label():
  checks.check_label(3, CLASSES)
  for label in -1, 4:
    with pytest.raises(ValueError, match=f'{label}'):
      checks.check_label(label, CLASSES)


def features(image=None, **others):
  image = image or tfds.features.Tensor(shape=SHAPE, dtype=np.uint8)
  return {'image': image} | others


def number(dtype):
  return tfds.features.Scalar(dtype)


@pytest.mark.parametrize(
  'described, match',
  [
    (features(), r"\['image'\]"),
    (features(label=number(np.float32)), r"'label' is float32"),
    (
      features(label=tfds.features.Tensor(shape=(2,), dtype=np.int64)),
      r"'label' is int64 \[2\]",
    ),
    (
      features(label=tfds.features.ClassLabel(num_classes=10)),
      "'label' has 10 classes",
    ),
    (
      features(
        tfds.features.Tensor(shape=SHAPE, dtype=np.float32),
        label=number(np.int64),
      ),
      r"'image' is float32",
    ),
    (
      features(tfds.features.Image(shape=(32, 32, 1)), label=number(np.int64)),
      r"'image' is uint8 \[32, 32, 1\]",
    ),
  ],
)
def test_other_features_are_named(described, match):
  with pytest.raises(ValueError, match=match):
    checks.check_features('here', described, SHAPE, CLASSES)


def test_the_expected_features_pass():
  for label in number(np.uint8), tfds.features.ClassLabel(num_classes=4):
    checks.check_features('here', features(label=label), SHAPE, CLASSES)
  jpeg = features(tfds.features.Image(), label=number(np.int64))
  checks.check_features('here', jpeg, (None, None, 3), CLASSES)
