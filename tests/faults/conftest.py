"""Fixtures: a run without faults, and data sets."""

import pytest

from tests.faults import trainer
from tests.jaxmix.classification import tiny_cifar, tiny_imagenet

# 125 steps. Nearly every dispatch is followed by a save, and some by a slow
# evaluation, so that a fault at any moment interrupts something.
FIELDS = {
  'epochs': 20.0,
  'log_every': 1,
  'eval_every': 4.0,
  'checkpoint_every': 0.6,
  'slow_evaluation': 0.2,
}


@pytest.fixture(scope='session')
def whole(made_once):
  """The workdir of an uninterrupted run of `FIELDS`, which no test changes."""

  def train(workdir):
    done = trainer.train(workdir, FIELDS)
    assert done.code == 0, done.err

  return made_once('whole', train)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
  """Hides the data sets of the user who runs the tests."""
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'default'))
  monkeypatch.delenv('JAXMIX_CIFAR10', raising=False)
  monkeypatch.delenv('JAXMIX_CIFAR100', raising=False)


@pytest.fixture(scope='session')
def cifar(tmp_path_factory):
  """`config.data.dir` with a tiny CIFAR-100 that we prepared."""
  # Here: the faults of training are tried where tfds is missing too.
  from jaxmix.classification.datasets import prepare

  root = tmp_path_factory.mktemp('cifar')
  source = tiny_cifar.write_folder(root / 'published', tiny_cifar.rows())
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(prepare.DATASETS, 'cifar100', tiny_cifar.SPEC)
    prepare.find(
      'cifar100',
      data_dir=str(root / 'sets'),
      source=str(source),
      download=False,
    )
  return root / 'sets'


@pytest.fixture(scope='session')
def imagenet(tmp_path_factory):
  """`config.data.dir` with a tiny ImageNet; three files a split."""
  root = tmp_path_factory.mktemp('imagenet')
  splits = {s: tiny_imagenet.files(s) for s in ('train', 'validation')}
  tiny_imagenet.prepare(root, splits, shards=3)
  return root
