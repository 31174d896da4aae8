import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from jaxmix.classification.datasets import splits
from tests.jaxmix.classification import tiny_cifar
from tests.jaxmix.classification.compare import assert_same, check_source


@pytest.mark.parametrize('split, total', [('train', 1437), ('test', 360)])
def test_digits_split(data_config, split, total):
  arrays = splits.load(data_config(), split)
  assert arrays['image'].shape == (total, 8, 8, 1)
  assert arrays['image'].dtype == np.uint8
  assert (arrays['image'].min(), arrays['image'].max()) == (0, 255)
  assert arrays['label'].shape == (total,)
  assert arrays['label'].dtype == np.int32
  counts = np.bincount(arrays['label'])
  low, high = {'train': (139, 147), 'test': (35, 37)}[split]
  assert (counts.min(), counts.max()) == (low, high)


def test_digits_are_the_real_ones_and_the_splits_do_not_overlap(data_config):
  from sklearn.datasets import load_digits

  digits: Any = load_digits()
  parts = [
    splits.load(data_config(), split)['image'] for split in ('train', 'test')
  ]
  seen = [image.tobytes() for part in parts for image in part]
  scaled = np.round(digits.images * 255 / 16).astype(np.uint8)
  assert len(set(seen)) == len({image.tobytes() for image in scaled}) == 1797
  assert set(seen) == {image.tobytes() for image in scaled}


def test_the_spec_of_the_digits_matches_the_data(data_config):
  spec = splits.dataset_spec(data_config())
  for split, expected in [('train', 1437), ('test', 360)]:
    assert spec.examples(split) == expected
  image = splits.load(data_config(), 'train')['image'] / 255
  assert image.shape[1:] == spec.image_shape
  np.testing.assert_allclose(image.mean((0, 1, 2)), spec.mean, atol=5e-5)
  np.testing.assert_allclose(image.std((0, 1, 2)), spec.std, atol=5e-5)


def test_subset_is_the_first_of_each_class_in_file_order(data_config):
  full = splits.load(data_config(), 'train')
  subset = splits.load(data_config(train_examples=103), 'train')
  expected = sorted(
    i
    for c in range(10)
    for i in np.flatnonzero(full['label'] == c)[: 11 if c < 3 else 10]
  )
  assert_same(subset, {k: v[expected] for k, v in full.items()})
  assert (
    splits.dataset_spec(data_config(train_examples=103)).train_examples == 103
  )
  assert_same(
    splits.load(data_config(train_examples=103), 'test'),
    splits.load(data_config(), 'test'),
  )
  assert len(splits.load(data_config(test_examples=50), 'test')['label']) == 50
  assert_same(splits.load(data_config(train_examples=1437), 'train'), full)


@pytest.mark.parametrize('examples', [-1, 1438, 1436])
def test_impossible_subset(data_config, examples):
  with pytest.raises(ValueError, match=r'config\.data\.train_examples'):
    splits.load(data_config(train_examples=examples), 'train')


def test_digits_source_is_load(data_config):
  block = data_config(train_examples=100)
  arrays, source = splits.load(block, 'train'), splits.source(block, 'train')
  check_source(source, arrays, [0, 1, 57, 99, -1])


@pytest.mark.parametrize(
  'fields, split, match',
  [
    ({'name': 'mnist'}, 'train', r'config\.data\.name'),
    ({}, 'validation', "split='validation'"),
    ({'source': 'somewhere'}, 'train', r'config\.data\.source'),
  ],
)
def test_bad_config(data_config, fields, split, match):
  for function in splits.load, splits.source:
    with pytest.raises(ValueError, match=match):
      function(data_config(**fields), split)


def test_importing_it_brings_no_tensorflow():
  code = (
    'import sys, jaxmix.classification.datasets.splits as d;'
    'assert not {"tensorflow", "tensorflow_datasets", "sklearn"}'
    ' & sys.modules.keys();'
    'import jaxmix.classification.datasets.prepare;'
    'assert "tensorflow" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


# --- The real CIFAR-100, which takes seconds to unpack and prepare ---


@pytest.mark.slow
@pytest.mark.parametrize('split', ['train', 'test'])
def test_cifar100_equals_the_publishers_file(
  cifar100_arrays, cifar100_archive, split
):
  rows = np.fromfile(cifar100_archive / f'{split}.bin', np.uint8)
  assert_same(cifar100_arrays[split], tiny_cifar.arrays(rows.reshape(-1, 3074)))
  total, each = {'train': (50_000, 500), 'test': (10_000, 100)}[split]
  assert cifar100_arrays[split]['image'].shape == (total, 32, 32, 3)
  assert (np.bincount(cifar100_arrays[split]['label']) == each).all()


@pytest.mark.slow
def test_the_spec_of_cifar100_matches_the_data(data_config, cifar100_arrays):
  spec = splits.dataset_spec(data_config(name='cifar100'))
  # Sums of integers by channel: float64 copies would take 1.2 GB.
  images = cifar100_arrays['train']['image'].reshape(-1, 3)
  values = np.arange(256) / 255
  for c in range(3):
    fraction = np.bincount(images[:, c], minlength=256) / len(images)
    mean = (fraction * values).sum()
    std = np.sqrt((fraction * (values - mean) ** 2).sum())
    assert abs(mean - spec.mean[c]) < 5e-5
    assert abs(std - spec.std[c]) < 5e-5


@pytest.mark.slow
def test_cifar100_source_is_load(data_config, cifar100_dir, cifar100_arrays):
  block = data_config(name='cifar100', dir=cifar100_dir)
  source = splits.source(block, 'train')
  indices = np.random.default_rng(0).permutation(50_000)[:500].tolist()
  check_source(source, cifar100_arrays['train'], [*indices, 0, 49_999, -1])


@pytest.mark.slow
def test_cifar100_subset(data_config, cifar100_dir, cifar100_arrays):
  block = data_config(name='cifar100', dir=cifar100_dir, test_examples=10)
  subset = splits.load(block, 'test')
  labels = cifar100_arrays['test']['label']
  keep = sorted(np.flatnonzero(labels == c)[0] for c in range(10))
  assert_same(subset, {k: v[keep] for k, v in cifar100_arrays['test'].items()})
  check_source(splits.source(block, 'test'), subset, [*range(10), -1])
  block.test_examples = 250
  counts = np.bincount(splits.load(block, 'test')['label'])
  np.testing.assert_array_equal(counts, [3] * 50 + [2] * 50)


@pytest.mark.slow
def test_cifar100_without_tensorflow(data_config, cifar100_dir):
  code = (
    'import sys, ml_collections;'
    'from jaxmix.classification.datasets import splits;'
    f'block = ml_collections.ConfigDict({dict(data_config())!r});'
    f'block.update(name="cifar100", dir={cifar100_dir!r});'
    'assert len(splits.load(block, "test")["label"]) == 10_000;'
    'assert splits.source(block, "test")[9]["image"].shape == (32, 32, 3);'
    'assert "tensorflow" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


def test_other_digits_are_refused(monkeypatch, data_config):
  table = np.zeros((1797, 65), np.int32)
  monkeypatch.setattr(np, 'loadtxt', lambda *_, **__: table)
  table[100, 64] = 10
  with pytest.raises(ValueError, match='labels'):
    splits.load(data_config(), 'train')
  table = table[1:]
  with pytest.raises(ValueError, match='1796'):
    splits.load(data_config(), 'train')
