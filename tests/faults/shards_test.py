"""R4: damaged record files. No wrong example is trained on.

A flipped bit in a set that we prepared is found by its sha256 before step 1;
this is tested with the trainer itself, 200 times in `make faults`. Other sets
have no fingerprints: they are read completely in this process after each flip,
and the result is the original or an error that names the record.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest

from jaxmix.classification.datasets import array_records, splits
from jaxmix.classification.datasets.specs import DATASETS
from launch.train.data_checks import arrays_fingerprint
from tests.faults import tiny_config, trainer
from tests.faults.trainer import refused, train, trials
from tests.jaxmix.classification import tiny_cifar, tiny_tfds

CONFIG = 'tests/faults/tiny_config.py'
FIRST = 'jaxmix_cifar-{}.array_record-00000-of-00001'


def flip(path: pathlib.Path, rng: np.random.Generator, end: int | None = None):
  """Flips one bit of a file, of its first `end` bytes."""
  content = bytearray(path.read_bytes())
  content[rng.integers(end or len(content))] ^= 1 << int(rng.integers(8))
  path.write_bytes(content)


@pytest.fixture
def copy(cifar, tmp_path):
  return shutil.copytree(cifar, tmp_path / 'sets')


def folder_of(root):
  return root / 'jaxmix_cifar' / 'cifar100' / '1.0.0'


def run(tmp_path, root, arg='', **fields):
  fields = {'data.dir': root} | fields
  return train(tmp_path / 'w', fields, config=CONFIG + arg, seconds=60)


# --- Before step 1, in the trainer ---


@pytest.mark.slow
@pytest.mark.parametrize('trial', trials(2, 200))
def test_a_flip_is_found_before_step_1(copy, tmp_path, trial):
  rng = np.random.default_rng(trial)
  split = 'train' if rng.integers(4) else 'test'
  flip(folder_of(copy) / FIRST.format(split), rng)
  feed = ('streamed', 'resident')[trial % 2] if split == 'train' else 'streamed'
  done = run(tmp_path, copy, **{'data.feed': feed})
  if done.code == 0 and feed == 'resident':
    # The flip hit padding: the arrays are those that were published.
    arrays = tiny_cifar.arrays(tiny_cifar.rows()['train'])
    trained = json.loads((tmp_path / 'w' / 'data.json').read_text())
    assert trained['fingerprint'] == arrays_fingerprint(arrays)
    return
  refused(done, 3, FIRST.format(split))
  assert not list((tmp_path / 'w').glob('*'))


@pytest.mark.slow
@pytest.mark.parametrize('trial', trials(1, 4))
def test_a_cut_file_is_found_before_step_1(copy, tmp_path, trial):
  path = folder_of(copy) / FIRST.format('train')
  size = path.stat().st_size
  kept = (size - 1, size // 2, 100, 0)[trial]
  path.write_bytes(path.read_bytes()[:kept])
  refused(run(tmp_path, copy), 3, str(path))


def damage(folder, how):
  train_file, test_file = (folder / FIRST.format(s) for s in ('train', 'test'))
  if how == 'missing':
    train_file.unlink()
    return (train_file.name,)
  if how == 'swapped':
    content = train_file.read_bytes()
    train_file.write_bytes(test_file.read_bytes())
    test_file.write_bytes(content)
    return ('array_record-00000-of-00001',)
  if how == 'stale record':  # of another preparation
    path = folder / 'jaxmix.json'
    record = json.loads(path.read_text())
    record['shards'][train_file.name]['sha256'] = 64 * '0'
    path.write_text(json.dumps(record))
    return (train_file.name,)
  path = folder / 'dataset_info.json'
  text = path.read_text()
  assert text.count('"12"') == 1
  path.write_text(text.replace('"12"', '"11"'))
  return train_file.name, '12', '11'


@pytest.mark.slow
@pytest.mark.parametrize(
  'how',
  ['missing', 'swapped', 'stale record', 'stale index'][
    :: 1 if trainer.FULL else 3
  ],
)
def test_changed_files_are_found(copy, tmp_path, how):
  named = damage(folder_of(copy), how)
  refused(run(tmp_path, copy), 3, *named)


@pytest.mark.slow
def test_swapped_files_of_jpeg_images_are_found(imagenet, tmp_path):
  root = shutil.copytree(imagenet, tmp_path / 'sets')
  first, second, _ = sorted(root.glob('*/*/*train*'))
  content = first.read_bytes()
  first.write_bytes(second.read_bytes())
  second.write_bytes(content)
  done = run(tmp_path, root, ':imagenet')
  refused(done, 3, f'{first}', '14', '13')


# --- Sets without fingerprints, in this process ---


def read_all(source):
  return source.__getitems__(range(len(source)))


def flipped(make, shard, end, count, seed):
  """Reads a source after each of many flips; returns counts of the outcomes.

  Args:
    make: opens the source.
    shard: the file, restored at the end.
    end: flips are in the first `end` bytes; None for all.
    count: number of flips.
    seed: of the flips.
  """
  rng = np.random.default_rng(seed)
  whole, content = read_all(make()), shard.read_bytes()
  outcomes = {'error': 0, 'same': 0}
  for i in range(count):
    flip(shard, rng, end)
    try:
      for example, original in zip(read_all(make()), whole, strict=True):
        np.testing.assert_array_equal(example['image'], original['image'])
        assert example['label'] == original['label']
      outcomes['same'] += 1
    except (ValueError, OSError) as error:
      assert shard.name in str(error), f'flip {i}, seed {seed}: {error}'
      outcomes['error'] += 1
    shard.write_bytes(content)
  return outcomes


COUNT = 200 if trainer.FULL else 25


def test_a_flip_in_a_set_of_tfds_is_an_error_or_changes_nothing(
  tmp_path, monkeypatch
):
  monkeypatch.setitem(DATASETS, 'cifar100', tiny_cifar.SPEC)
  folder = tiny_tfds.prepare(tmp_path)
  (shard,) = folder.glob('*train*')

  def make():
    return array_records.open_split(folder, 'cifar100', 'train')

  outcomes = flipped(make, shard, 12 * 3200, COUNT, 0)
  assert outcomes['error'] > 0.9 * COUNT, outcomes
  outcomes = flipped(make, shard, None, COUNT, 1)
  assert outcomes['same'] > 0, 'no flip has hit the padding'


def test_a_flip_in_jpeg_images_is_an_error_or_changes_nothing(
  imagenet, tmp_path
):
  root = shutil.copytree(imagenet, tmp_path / 'sets')
  shard = sorted(root.glob('*/*/*train*'))[1]
  block = tiny_config.get_config('imagenet').data
  block.dir = str(root)

  def make():
    return splits.source(block, 'train')

  outcomes = flipped(make, shard, None, COUNT // 5 if COUNT < 200 else COUNT, 2)
  assert outcomes['error'] > 0, outcomes


# --- While the trainer runs ---

LONG = {
  'epochs': 1e6,
  'eval_every': 0.0,
  'checkpoint_every': 0.0,
  'log_every': 20,
}


def spoil(shard: pathlib.Path, needle: bytes) -> None:
  """Flips a bit within the only occurrence of some bytes."""
  spot = shard.read_bytes().find(needle)
  assert spot > 0, 'the pixels are stored as they are'
  with shard.open('r+b') as file:
    file.seek(spot + len(needle) // 2)
    (byte,) = file.read(1)
    file.seek(-1, 1)
    file.write(bytes([byte ^ 16]))


@pytest.mark.slow
@pytest.mark.parametrize('trial', trials(1, 6))
def test_a_flip_while_training_names_the_record(copy, tmp_path, trial):
  record = (5, 0, 11, 7, 2, 9)[trial]
  shard = folder_of(copy) / FIRST.format('train')
  image = tiny_cifar.arrays(tiny_cifar.rows()['train'])['image'][record]
  process = trainer.start(
    tmp_path / 'w', LONG | {'data.dir': copy}, config=CONFIG
  )
  trainer.wait_for_step(process, tmp_path / 'w', 40)
  spoil(shard, image.tobytes())
  done = trainer.wait(process, 60)
  refused(done, 3, f'record {record} of {shard} (example {record} of')


@pytest.mark.slow
def test_damage_in_the_test_split_names_the_record(imagenet, tmp_path):
  root = shutil.copytree(imagenet, tmp_path / 'sets')
  shard = sorted(root.glob('*/*/*validation*'))[1]
  fields = LONG | {'data.dir': root, 'eval_every': 0.5, 'log_every': 4}
  process = trainer.start(tmp_path / 'w', fields, config=CONFIG + ':imagenet')
  trainer.wait_for_step(process, tmp_path / 'w', 12)
  with shard.open('r+b') as file:
    file.seek(20_000)
    file.write(bytes(2000))
  done = trainer.wait(process, 60)
  refused(done, 3, f'of {shard} (example ', "of 'validation')")
