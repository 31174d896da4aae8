import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jaxmix.classification.datasets import array_records, prepare, splits
from jaxmix.classification.datasets.archives import fsdd
from jaxmix.classification.datasets.specs import DATASETS
from tests.jaxmix.classification import tiny_audio
from tests.jaxmix.classification.compare import assert_same, check_source

SPEC = tiny_audio.FSDD


def test_takes_are_split_as_the_publisher_says(tmp_path):
  source = tiny_audio.write(tmp_path / 'x', tiny_audio.digits())
  splits, _ = fsdd.read_source(SPEC, source)
  for split, takes in ('train', (1, 2)), ('test', (0,)):
    audio, label = splits[split]['audio'], splits[split]['label']
    assert audio.shape == (SPEC.examples(split), 8000)
    assert audio.dtype == np.int16 and label.dtype == np.int32
    assert np.bincount(label).tolist() == [6 * len(takes)] * 10
    # tiny_audio numbers the recordings, 18 a digit and 3 a speaker.
    numbers = [
      18 * d + 3 * s + t + 1 for d in range(10) for s in range(6) for t in takes
    ]
    assert audio[:, 0].tolist() == numbers
    assert np.array_equal(label, (audio[:, 0] - 1) // 18)
    assert not audio[:, 23:].any()


def test_whole_speakers_are_held_back(tmp_path):
  spec = dataclasses.replace(
    DATASETS['fsdd_speakers'], train_examples=120, test_examples=60
  )
  source = tiny_audio.write(tmp_path / 'x', tiny_audio.digits())
  splits, _ = fsdd.read_source(spec, source)
  for split, speakers in ('train', {0, 1, 2, 3}), ('test', {4, 5}):
    number = splits[split]['audio'][:, 0] - 1
    assert set(number % 18 // 3) == speakers
    assert len(number) == spec.examples(split)


def test_any_form_is_the_same(tmp_path):
  files = {f'fsdd-main/{k}': v for k, v in tiny_audio.digits().items()}
  files['fsdd-main/README.md'] = b'about'
  folder = tiny_audio.write(tmp_path / 'x', files)
  wanted, sums = fsdd.read_source(SPEC, folder)
  for source in (
    folder / 'fsdd-main',
    folder / 'fsdd-main' / 'recordings',
    tiny_audio.write(tmp_path / 'a.zip', files),
    tiny_audio.write(tmp_path / 'a.tar.gz', files),
  ):
    found, same = fsdd.read_source(SPEC, source)
    for split in wanted:
      assert_same(found[split], wanted[split])
    assert same == sums == fsdd.source_fingerprints(SPEC, source)


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('3_theo_1.wav', None, r'recordings/3_theo_1\.wav'),
    ('3_anna_1.wav', tiny_audio.wav([1], 8000), '3_anna_1'),
    ('3_theo_3.wav', tiny_audio.wav([1], 8000), '3_theo_3'),
    ('3_theo_1.wav', tiny_audio.wav([1], 16_000), 'theo_1.* 16000'),
    ('3_theo_1.wav', b'RIFF', r'3_theo_1\.wav'),
    ('3_theo_1.wav', b'', r'3_theo_1\.wav'),
  ],
)
def test_what_is_not_the_data_set_is_named(tmp_path, name, content, message):
  files = tiny_audio.digits() | {f'recordings/{name}': content}
  files = {k: v for k, v in files.items() if v is not None}
  source = tiny_audio.write(tmp_path / 'x', files)
  with pytest.raises(ValueError, match=message):
    fsdd.read_source(SPEC, source)


def test_a_prepared_set_is_read_in_both_ways(
  data_config, tmp_path, monkeypatch
):
  monkeypatch.setitem(DATASETS, 'fsdd', SPEC)
  source = tiny_audio.write(tmp_path / 'x', tiny_audio.digits())
  wanted, _ = fsdd.read_source(SPEC, source)
  folder = prepare.find(
    'fsdd', data_dir=str(tmp_path / 'sets'), source=str(source), download=False
  )
  monkeypatch.setattr(fsdd, 'read_source', None)  # not needed any more
  for split in 'train', 'test':
    arrays = array_records.load_split(folder, 'fsdd', split)
    assert_same(arrays, wanted[split])
    check_source(
      array_records.open_split(folder, 'fsdd', split), arrays, [0, 5, -1]
    )
  with pytest.raises(FileNotFoundError, match='JAXMIX_FSDD'):
    splits.load(data_config(name='fsdd'), 'train')


@pytest.mark.slow
def test_the_real_recordings(tmp_path, data_config):
  unpack = pathlib.Path(__file__).parents[6] / 'shared' / 'data' / 'unpack.py'
  if not unpack.exists():
    pytest.skip(f'needs the real FSDD ({unpack} is not here)')
  source = tmp_path / 'fsdd'
  subprocess.run([sys.executable, unpack, 'fsdd', source], check=True)
  for name, each in ('fsdd', 30), ('fsdd_speakers', 100):
    block = data_config(name=name, source=str(source), dir=str(tmp_path))
    train, test = splits.load(block, 'train'), splits.load(block, 'test')
    assert np.bincount(test['label']).tolist() == [each] * 10
    assert np.bincount(train['label']).tolist() == [300 - each] * 10
    assert splits.dataset_spec(block).train_examples == len(train['label'])
    # Nothing of one split is in the other.
    both = {x.tobytes() for x in train['audio']}
    assert not any(x.tobytes() in both for x in test['audio'])


def test_nothing_is_downloaded_without_a_published_checksum(
  tmp_path, data_config
):
  block = data_config(name='fsdd', dir=str(tmp_path), download=True)
  with pytest.raises(FileNotFoundError, match='https') as error:
    splits.load(block, 'train')
  assert 'download=True' not in str(error.value)
