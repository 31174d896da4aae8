import dataclasses
import hashlib

import ml_collections
import pytest

from jaxmix.classification.datasets import splits
from jaxmix.classification.datasets.specs import DATASETS
from tests.jaxmix.classification import tiny_cifar


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
  """No test may find, or write to, the data sets of whoever runs it."""
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'default'))
  monkeypatch.delenv('JAXMIX_CIFAR10', raising=False)
  monkeypatch.delenv('JAXMIX_CIFAR100', raising=False)
  monkeypatch.delenv('JAXMIX_TINY_IMAGENET', raising=False)


@pytest.fixture(scope='session')
def data_config():
  """Makes the block `config.data` from fields that differ from the default."""

  def make(**fields):
    default = {
      'name': 'digits',
      'source': '',
      'dir': '',
      'download': False,
      'feed': 'resident',
      'train_examples': 0,
      'test_examples': 0,
    }
    return ml_collections.ConfigDict(default | fields)

  return make


@pytest.fixture
def tiny(monkeypatch):
  """Replaces CIFAR-100 by the tiny one."""
  monkeypatch.setitem(DATASETS, 'cifar100', tiny_cifar.SPEC)


@pytest.fixture
def published(tmp_path, monkeypatch):
  """The spec of the tiny archive, published at a file: URL."""
  (tmp_path / 'web').mkdir()
  path = tmp_path / 'web' / 'cifar-100-binary.tar.gz'
  tiny_cifar.write_archive(path, tiny_cifar.members(tiny_cifar.rows()))
  spec = dataclasses.replace(
    tiny_cifar.SPEC,
    url=path.as_uri(),
    checksum=f'md5:{hashlib.md5(path.read_bytes()).hexdigest()}',
  )
  monkeypatch.setitem(DATASETS, 'cifar100', spec)
  return spec


@pytest.fixture(scope='session')
def cifar100_dir(cifar100_archive, made_once):
  """`config.data.dir` with the real CIFAR-100 prepared."""
  # Imported here: tests of networks and steps run without tfds.
  from jaxmix.classification.datasets import prepare

  def make(root):
    source = str(cifar100_archive)
    folder = prepare.find(
      'cifar100', data_dir=str(root), source=source, download=False
    )
    assert folder.is_relative_to(root)

  return str(made_once('cifar100_prepared', make))


@pytest.fixture(scope='session')
def cifar100_arrays(cifar100_dir, data_config):
  """Both splits of the real CIFAR-100, as loaded."""
  block = data_config(name='cifar100', dir=cifar100_dir)
  return {split: splits.load(block, split) for split in ('train', 'test')}
