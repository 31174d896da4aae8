import dataclasses
import hashlib
import json
import os

import pytest

from jaxmix.classification.datasets import array_records, splits
from jaxmix.classification.datasets.archives import cifar
from tests.jaxmix.classification import tiny_cifar


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
def test_missing_or_cut_shard(tiny_prepared, read):
  folder, shard = tiny_prepared
  os.truncate(shard, shard.stat().st_size - 100)
  with pytest.raises(ValueError, match=shard.name):
    read(folder)
  shard.unlink()
  with pytest.raises(FileNotFoundError, match=f'{shard.name} is missing'):
    read(folder)


@pytest.mark.parametrize('read', [open_and_read, load])
def test_spoiled_shard(tiny_prepared, read):
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


def test_record_that_does_not_fit(tiny_prepared):
  folder, _ = tiny_prepared
  path = folder / 'jaxmix.json'
  record = json.loads(path.read_text())
  record['splits']['train']['sha256'] = hashlib.sha256(b'').hexdigest()
  path.write_text(json.dumps(record))
  with pytest.raises(ValueError, match=r'train is not what jaxmix\.json'):
    load(folder)
  path.write_text(path.read_text()[:-9])
  with pytest.raises(ValueError, match=r'jaxmix\.json is missing or broken'):
    open_and_read(folder)
  path.unlink()
  with pytest.raises(ValueError, match=r'jaxmix\.json is missing or broken'):
    open_and_read(folder)


def test_other_number_of_examples(tiny_prepared, monkeypatch):
  folder, _ = tiny_prepared
  layout = dataclasses.replace(
    tiny_cifar.LAYOUT, per_class={'train': 4, 'test': 2}
  )
  monkeypatch.setitem(cifar.LAYOUTS, 'cifar100', layout)
  with pytest.raises(ValueError, match='12 train examples, expected 16'):
    load(folder)
