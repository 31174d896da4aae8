"""R12: a data folder that is missing, incomplete or changed is refused."""

import os
import shutil
import signal

import pytest

from tests.faults import trainer
from tests.faults.trainer import refused, train
from tests.jaxmix.classification import tiny_cifar, tiny_tfds
from tests.jaxretrieval import planted

pytestmark = pytest.mark.slow

CONFIG = 'tests/faults/tiny_config.py'
SECONDS = 60  # until the error, on a busy machine


def some(cases, few):
  """Returns all cases with FAULTS=full, and otherwise those at `few`."""
  return cases if trainer.FULL else [cases[i] for i in few]


def pipe(path):
  path.unlink()
  os.mkfifo(path)


def cut(path):
  path.write_bytes(path.read_bytes()[:200])


def empty(folder):
  shutil.rmtree(folder)
  folder.mkdir()


def a_file(folder):
  shutil.rmtree(folder)
  folder.write_text('')


def rename(folder):
  folder.rename(folder.with_name('0.9.0'))


OURS = 'jaxmix_cifar/cifar100/1.0.0'
SHARD = 'jaxmix_cifar-train.array_record-00000-of-00001'
CIFAR = [
  ('missing', '', shutil.rmtree, ['config.data.source', OURS]),
  ('empty', '', empty, ['config.data.source', OURS]),
  ('a file', '', a_file, ['config.data.source', OURS]),
  ('another version', OURS, rename, ['config.data.source', '0.9.0', '1.0.0']),
  ('not filled', OURS, empty, ['config.data.source', OURS]),
  ('version a file', OURS, a_file, [OURS]),
  ('half copied', f'{OURS}/{SHARD}', cut, [SHARD, '200']),
  ('record cut', f'{OURS}/jaxmix.json', cut, ['jaxmix.json']),
  ('pipe', f'{OURS}/{SHARD}', pipe, [SHARD]),
  ('record a pipe', f'{OURS}/jaxmix.json', pipe, ['jaxmix.json']),
  *(
    (f'{name} {how.__name__}', f'{OURS}/{name}', how, [name])
    for name in ('dataset_info.json', 'features.json')
    for how in (pipe, cut)
  ),
]


def check(root, tmp_path, part, damage, names, config, **fields):
  damage(root / part if part else root)
  done = train(tmp_path / 'w', fields, config=config, seconds=SECONDS)
  refused(done, 3, *names)
  assert not list((tmp_path / 'w').glob('*')), 'a run was started'


@pytest.mark.parametrize(
  'part, damage, names',
  [pytest.param(*c, id=name) for name, *c in some(CIFAR, [6])],
)
def test_cifar(cifar, tmp_path, part, damage, names):
  root = shutil.copytree(cifar, tmp_path / 'sets')
  check(root, tmp_path, part, damage, names, CONFIG, **{'data.dir': root})


PHOTOS = 'imagenet2012/5.1.0'
MIDDLE = 'imagenet2012-train.array_record-00001-of-00003'
IMAGENET = [
  ('missing', '', shutil.rmtree, ['imagenet2012/<version>']),
  ('not filled', PHOTOS, empty, ['5.1.0', 'dataset_info.json']),
  ('another version', PHOTOS, rename, ['0.9.0', '5.1.0']),
  ('a file', PHOTOS, a_file, ['imagenet2012/<version>']),
  ('half copied', f'{PHOTOS}/{MIDDLE}', cut, [MIDDLE]),
  ('pipe', f'{PHOTOS}/{MIDDLE}', pipe, [MIDDLE]),
  *(
    (f'{name} {how.__name__}', f'{PHOTOS}/{name}', how, [name])
    for name in ('dataset_info.json', 'features.json')
    for how in (pipe, cut)
  ),
]


@pytest.mark.parametrize(
  'part, damage, names',
  [pytest.param(*c, id=name) for name, *c in some(IMAGENET, [4])],
)
def test_imagenet(imagenet, tmp_path, part, damage, names):
  root = shutil.copytree(imagenet, tmp_path / 'sets')
  config = CONFIG + ':imagenet'
  check(root, tmp_path, part, damage, names, config, **{'data.dir': root})


FEATURES = 'planted-train.array_record-00000-of-00001'
SETS = [
  ('missing', '', shutil.rmtree, ['feature_set.json']),
  ('empty', '', empty, ['feature_set.json', '<image>-<text>/1.0.0']),
  ('a file', '', a_file, ['feature_set.json']),
  ('half copied', FEATURES, cut, [FEATURES, '200']),
  ('pipe', FEATURES, pipe, [FEATURES]),
  ('record cut', 'feature_set.json', cut, ['feature_set.json']),
  ('record a pipe', 'feature_set.json', pipe, ['feature_set.json']),
  *(
    (f'{name} {how.__name__}', name, how, [name])
    for name in ('dataset_info.json', 'features.json')
    for how in (pipe, cut)
  ),
]


@pytest.fixture(scope='module')
def planted_set(tmp_path_factory):
  return planted.write(tmp_path_factory.mktemp('planted'), train=64, test=16)


@pytest.mark.parametrize(
  'part, damage, names',
  [pytest.param(*c, id=name) for name, *c in some(SETS, [7])],
)
def test_features(planted_set, tmp_path, part, damage, names):
  root = shutil.copytree(planted_set, tmp_path / 'set')
  config = 'configs/retrieval_quickstart.py'
  check(root, tmp_path, part, damage, names, config, **{'data.source': root})


def half_an_archive(root):
  path = tiny_cifar.write_archive(
    root / 'a.tar.gz', tiny_cifar.members(tiny_cifar.rows())
  )
  path.write_bytes(path.read_bytes()[:20_000])
  return path


def a_pipe(root):
  os.mkfifo(root / 'a.tar.gz')
  return root / 'a.tar.gz'


def a_pipe_in_a_folder(root):
  folder = tiny_cifar.write_folder(root / 'x', tiny_cifar.rows())
  pipe(folder / 'train.bin')
  return folder


SOURCES = [
  (half_an_archive, 'a.tar.gz'),
  (a_pipe, 'a.tar.gz'),
  (a_pipe_in_a_folder, 'train.bin'),
]


@pytest.mark.parametrize('write, name', some(SOURCES, [0]))
def test_a_source_to_prepare_from(tmp_path, write, name):
  root = tmp_path / 'sets'
  fields = {'data.dir': root, 'data.source': write(tmp_path)}
  done = train(tmp_path / 'w', fields, config=CONFIG, seconds=SECONDS)
  refused(done, 3, name)
  assert not root.exists(), 'part of a data set is left'


# --- Files that change between start and resume ---


def other(root):
  """Replaces a data set by one with the examples in another order."""
  splits = tiny_tfds.examples()
  train_split = splits['train']
  splits['train'] = {k: array[::-1] for k, array in train_split.items()}
  shutil.rmtree(root)
  tiny_tfds.prepare(root, splits)


def stopped(workdir, fields, config):
  """Starts or resumes a run, and stops it some steps later."""
  process = trainer.start(workdir, fields, config=config)
  trainer.wait_for_step(process, workdir, 20)
  process.send_signal(signal.SIGTERM)
  done = trainer.wait(process, 60)
  assert done.code == 128 + signal.SIGTERM, done.err


@pytest.mark.parametrize('feed', ['streamed', 'resident'][: 1 + trainer.FULL])
def test_a_run_does_not_resume_with_other_data(tmp_path, feed):
  root = tmp_path / 'sets'
  tiny_tfds.prepare(root)
  fields = {'epochs': 1e6, 'eval_every': 0.0, 'checkpoint_every': 0.0}
  fields |= {'data.dir': root, 'data.feed': feed}
  stopped(tmp_path / 'w', fields, CONFIG)
  other(root)
  done = train(tmp_path / 'w', fields, config=CONFIG, seconds=30)
  refused(done, 8, 'data: ', '--workdir')
  shutil.rmtree(root)
  tiny_tfds.prepare(root)
  # The same examples in another folder.
  moved = root.rename(tmp_path / 'moved')
  stopped(tmp_path / 'w', fields | {'data.dir': moved}, CONFIG)
