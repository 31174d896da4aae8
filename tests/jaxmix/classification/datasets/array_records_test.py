import dataclasses
import hashlib
import json
import os

import pytest
import tensorflow_datasets as tfds

from jaxmix.classification.datasets import array_records, splits
from jaxmix.classification.datasets.specs import DATASETS
from tests.jaxmix.classification import tiny_cifar, tiny_tfds


@pytest.fixture
def tiny_prepared(data_config, tiny, tmp_path):
  tiny_cifar.write_folder(tmp_path / 'x', tiny_cifar.rows())
  block = data_config(name='cifar100', source=str(tmp_path / 'x'))
  folder = splits._find(block)
  shard = next(folder.glob('*train.array_record*'))
  return folder, shard


def open_and_read(folder):
  return array_records.open_split(folder, 'cifar100', 'train')[0]


def load(folder):
  return array_records.load_split(folder, 'cifar100', 'train')


@pytest.mark.parametrize('read', [open_and_read, load])
def test_a_missing_or_truncated_shard(tiny_prepared, read):
  folder, shard = tiny_prepared
  os.truncate(shard, shard.stat().st_size - 100)
  with pytest.raises(ValueError, match=shard.name):
    read(folder)
  shard.unlink()
  with pytest.raises(FileNotFoundError, match=shard.name):
    read(folder)


@pytest.mark.parametrize('read', [open_and_read, load])
def test_a_flipped_bit_of_a_shard(tiny_prepared, read):
  folder, shard = tiny_prepared
  content = bytearray(shard.read_bytes())
  spot = content.find(
    tiny_cifar.rows()['train'][0, 2:].reshape(3, -1).T.tobytes()
  )
  assert spot > 0, 'the pixels are stored as they are'
  content[spot + 7] ^= 1
  shard.write_bytes(content)
  with pytest.raises(ValueError, match=shard.name):
    read(folder)


def test_a_record_of_other_fingerprints(tiny_prepared):
  folder, _ = tiny_prepared
  path = folder / 'jaxmix.json'
  record = json.loads(path.read_text())
  record['splits']['train']['sha256'] = hashlib.sha256(b'').hexdigest()
  path.write_text(json.dumps(record))
  with pytest.raises(ValueError, match=r'train .*jaxmix\.json'):
    load(folder)
  path.write_text(path.read_text()[:-9])
  with pytest.raises(ValueError, match=r'jaxmix\.json'):
    open_and_read(folder)
  path.unlink()
  with pytest.raises(ValueError, match=r'jaxmix\.json'):
    open_and_read(folder)


def test_other_number_of_examples(tiny_prepared, monkeypatch):
  folder, _ = tiny_prepared
  spec = dataclasses.replace(tiny_cifar.SPEC, train_examples=16)
  monkeypatch.setitem(DATASETS, 'cifar100', spec)
  with pytest.raises(ValueError, match='12 train .* 16'):
    load(folder)


@pytest.mark.parametrize(
  'read', [array_records.load_split, array_records.open_split]
)
@pytest.mark.parametrize('value', [-1, 4])
def test_a_wrong_label_of_a_set_of_tfds(tiny, tmp_path, read, value):
  folder = tiny_tfds.prepare(tmp_path, tiny_tfds.changed(7, value))
  with pytest.raises(ValueError, match=f'label {value} .*example 7|example 7'):
    read(folder, 'cifar100', 'train')


@pytest.mark.parametrize(
  'read', [array_records.load_split, array_records.open_split]
)
def test_the_classes_of_a_set_of_tfds(tiny, tmp_path, read):
  folder = tiny_tfds.prepare(tmp_path, tiny_tfds.changed(7, 2))
  with pytest.raises(ValueError, match='class 2 has 4 examples'):
    read(folder, 'cifar100', 'train')
  label = tfds.features.ClassLabel(num_classes=100)
  folder = tiny_tfds.prepare(tmp_path / 'fine', label=label)
  with pytest.raises(ValueError, match='100 classes'):
    read(folder, 'cifar100', 'train')
