import numpy as np
import pytest

from jaxmix.classification.datasets.archives import speech_commands
from jaxmix.classification.datasets.specs import DATASETS
from tests.jaxmix.classification import tiny_audio
from tests.jaxmix.classification.compare import assert_same

SPEC = tiny_audio.COMMANDS
YES, GO, UNKNOWN, SILENCE = 0, 9, 10, 11


def read(tmp_path, changes=(), name='x'):
  files = tiny_audio.commands() | dict(changes)
  files = {k: v for k, v in files.items() if v is not None}
  source = tiny_audio.write(tmp_path / name, files)
  return speech_commands.read_source(SPEC, source)


@pytest.mark.parametrize('name', ['speech_commands_v1', 'speech_commands_v2'])
def test_the_counts_agree_with_each_other(name):
  spec = DATASETS[name]
  total = {'speech_commands_v1': 64_721, 'speech_commands_v2': 105_829}[name]
  assert sum(spec.recordings.values()) == total
  assert total == sum(
    speech_commands.num_recordings(spec, split) for split in spec.splits
  )
  assert set(speech_commands.WORDS) < set(spec.recordings)
  assert spec.num_classes == len(speech_commands.CLASSES)


def test_the_lists_split_it(tmp_path):
  files = tiny_audio.commands()
  names = [name for name in files if '_nohash_' in name]
  splits, _ = read(tmp_path)
  lists = {
    'validation': files['validation_list.txt'].decode().split(),
    'test': files['testing_list.txt'].decode().split(),
  }
  lists['train'] = sorted({*names} - {*lists['validation'], *lists['test']})
  classes = {'yes': YES, 'go': GO, 'bed': UNKNOWN}
  for split, wanted in lists.items():
    audio, label = splits[split]['audio'], splits[split]['label']
    assert audio.shape == (SPEC.examples(split), 16_000)
    assert audio.dtype == np.int16 and label.dtype == np.int32
    numbers = audio[label != SILENCE, 0].tolist()
    assert sorted(numbers) == sorted(names.index(name) + 1 for name in wanted)
    for number, known in zip(numbers, label, strict=False):
      assert classes[names[number - 1].partition('/')[0]] == known
    assert np.sum(label == SILENCE) == tiny_audio.RECORDINGS[split] // 10


def test_silence_is_noise_that_no_other_split_has(tmp_path):
  splits, _ = read(tmp_path)
  last = 0
  for split, (first, end) in speech_commands._NOISE_RANGES.items():
    cuts = splits[split]['audio'][splits[split]['label'] == SILENCE]
    assert first == last and len(cuts) >= 1
    last = end
    for cut in cuts.astype(float):
      # The noise is place / 16 + 1000: its slope tells the volume.
      volume = (cut[-1] - cut[0]) / (15_999 / 16)
      assert 0 <= volume <= 1
      if volume > 0.1:  # enough to tell its place by
        begin = (cut[0] / volume - 1000) / (30 * 1000)
        assert first - 0.01 <= begin <= end - 1 / 30 + 0.01
  again, _ = read(tmp_path, name='again')
  for split in splits:
    assert_same(again[split], splits[split])


def test_any_form_is_the_same(tmp_path):
  wanted, sums = read(tmp_path)
  files = {f'./{k}': v for k, v in tiny_audio.commands().items()}
  path = tiny_audio.write(tmp_path / 'a.tar.gz', files)
  found, same = speech_commands.read_source(SPEC, path)
  assert same == sums
  for split in wanted:
    assert_same(found[split], wanted[split])


FIRST = 'yes/00000000_nohash_0.wav'


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'testing_list.txt': None}, r'testing_list\.txt'),
    (
      {'validation_list.txt': b'yes/no.wav'},
      r'yes/no\.wav',
    ),
    (
      {'validation_list.txt': b'\n'},
      '30 recordings for train',
    ),
    ({FIRST: None}, "13 recordings of 'yes'|yes/0000"),
    ({'yes/1.wav': b'RIFF'}, r'yes/1\.wav'),
    (
      {'yes/1.wav': tiny_audio.wav([1], 8000)},
      r'yes/1\.wav .*8000',
    ),
    (
      {'yes/1.wav': tiny_audio.wav([1], 16_000)},
      "15 recordings of 'yes'",
    ),
    (
      {'_background_noise_/a.wav': tiny_audio.wav(np.ones(999), 16_000)},
      '_background_noise_',
    ),
  ],
)
def test_what_is_not_the_data_set_is_named(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    read(tmp_path, changes)


def test_a_missing_word_is_named(tmp_path):
  gone = [name for name in tiny_audio.commands() if name.startswith('go/')]
  lists = dict.fromkeys(('validation_list.txt', 'testing_list.txt'), b'\n')
  changes = dict.fromkeys(gone) | lists
  with pytest.raises(ValueError, match="0 recordings of 'go'"):
    read(tmp_path, changes)
