import dataclasses
from typing import Any

import numpy as np
import pytest
from tensorflow_datasets.core import shuffle

from jaxmix.classification.datasets import (
  array_records,
  prepare,
  splits,
  writer,
)
from jaxmix.files import record_sets
from tests.jaxmix.classification import tiny_cifar
from tests.jaxmix.classification.compare import assert_same, check_source


def find(data_config, tmp_path):
  source = tiny_cifar.write_folder(tmp_path / 'x', tiny_cifar.rows())
  root = str(tmp_path / 'data')
  block = data_config(name='cifar100', dir=root, source=str(source))
  return splits._find(block)


def test_a_split_of_many_files(data_config, tiny, tmp_path, monkeypatch):
  # As a split of more than a gigabyte, for which tfds wants TensorFlow.
  monkeypatch.setattr(writer, 'FILE', 3 * 3072)
  monkeypatch.setattr(shuffle, 'MAX_MEM_BUFFER_SIZE', 1000)
  folder = find(data_config, tmp_path)
  names = sorted(path.name for path in folder.glob('*train*'))
  assert names == [
    f'jaxmix_cifar-train.array_record-{i:05}-of-00004' for i in range(4)
  ]
  found = record_sets.check_shards(record_sets.open_set(folder), 'train')
  assert found.lengths == (3, 3, 3, 3)
  found = record_sets.check_shards(record_sets.open_set(folder), 'test')
  assert found.lengths == (3, 3, 2)
  for split, rows in tiny_cifar.rows().items():
    expected = tiny_cifar.arrays(rows)
    assert_same(array_records.load_split(folder, 'cifar100', split), expected)
    opened = array_records.open_split(folder, 'cifar100', split)
    check_source(opened, expected, [0, 2, 3, 7, -1])


def test_arrays_are_packed(tmp_path):
  layout = dataclasses.replace(
    tiny_cifar.LAYOUT, per_class={'train': 200, 'test': 2}
  )
  arrays = {
    split: {
      'image': np.full((4 * each, 32, 32, 3), 7, np.uint8),
      'label': np.arange(4 * each) % 4,
    }
    for split, each in layout.per_class.items()
  }
  builder: Any = prepare.PreparedSet(
    layout, arrays, data_dir=tmp_path, file_format='array_record'
  )
  builder.download_and_prepare()
  (path,) = tmp_path.glob('**/*train*')
  assert path.stat().st_size < 2**18 < arrays['train']['image'].nbytes / 8


def test_the_description_has_the_size(data_config, tiny, tmp_path):
  builder = record_sets.open_set(find(data_config, tmp_path))
  for split, count in ('train', 12), ('test', 8):
    size = builder.info.splits[split].num_bytes
    assert 3072 * count < size < 3172 * count


def test_an_example_less_or_more(data_config, tiny, tmp_path, monkeypatch):
  generate = (
    'jaxmix.classification.datasets.prepare.PreparedSet._generate_examples'
  )

  def examples(count):
    def generate(self, arrays):
      for i in range(count):
        yield {'image': arrays['image'][i % 8], 'label': 0}

    return generate

  for i, (count, message) in enumerate([(11, 'fewer'), (13, 'more than 12')]):
    monkeypatch.setattr(generate, examples(count))
    with pytest.raises(ValueError, match=f"'train' has {message}"):
      find(data_config, tmp_path / str(i))
    assert not list(tmp_path.glob(f'{i}/data/**/*'))


def test_files_are_even():
  rng = np.random.default_rng(0)
  for _ in range(50):
    parts = int(rng.integers(1, 20))
    total = int(rng.integers(parts, 100))
    lengths = writer.even(total, parts)
    assert sum(lengths) == total and len(lengths) == parts
    assert max(lengths) - min(lengths) <= 1 and min(lengths) >= 1
