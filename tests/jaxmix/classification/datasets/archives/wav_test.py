import numpy as np
import pytest

from jaxmix.classification.datasets.archives import wav
from tests.jaxmix.classification import tiny_audio

SAMPLES = np.array([1, -2, 32767, -32768])
WHOLE = tiny_audio.wav(SAMPLES, 8000)


def test_samples_are_read_as_they_are():
  read = wav.read_wav(WHOLE, 8000, 'here')
  assert read.dtype == np.int16 and np.array_equal(read, SAMPLES)


@pytest.mark.parametrize(
  'content, message',
  [
    (b'', ''),
    (b'RIFFxxxxWAVE', ''),
    (b'ID3' + WHOLE, ''),
    (WHOLE[:30], ''),
    (WHOLE[:-3], '2 samples.* 4 '),
    (tiny_audio.wav([], 8000), '0 samples'),
    (tiny_audio.wav(SAMPLES, 16_000), '16000 .* 8000'),
    (tiny_audio.wav(SAMPLES, 8000, channels=2), '2 channels of 16 bits'),
    (tiny_audio.wav([1, 2], 8000, width=1), '1 channels of 8 bits'),
    (tiny_audio.wav([1, 2], 8000, width=4), '1 channels of 32 bits'),
  ],
)
def test_other_recordings_are_refused(content, message):
  with pytest.raises(ValueError, match=f'here .*{message}'):
    wav.read_wav(content, 8000, 'here')


def test_a_second_is_cut_or_filled():
  assert wav.one_second(np.arange(9), 4).tolist() == [0, 1, 2, 3]
  assert wav.one_second(np.arange(1, 3), 4).tolist() == [1, 2, 0, 0]


@pytest.mark.parametrize('name', ['set', 'set.zip', 'set.tar.gz'])
def test_recordings_are_named_by_the_end_of_their_path(tmp_path, name):
  files = {'deep/down/a/x.wav': b'1', 'deep/down/a/z.txt': b'2'}
  source = tiny_audio.write(tmp_path / name, files)
  recordings = wav.iter_recordings(source, lambda x: x.endswith('.wav'), 10**5)
  assert dict(recordings) == {'a/x.wav': b'1'}
  if source.is_dir():
    recordings = wav.iter_recordings(
      source / 'deep/down/a', 'a/x.wav'.__eq__, 9
    )
    assert dict(recordings) == {'a/x.wav': b'1'}


def test_the_fingerprint_of_files_depends_on_names_and_contents():
  fingerprints = {
    wav.files_fingerprint(x) for x in ({'a': '1'}, {'b': '1'}, {'a': '2'}, {})
  }
  assert len(fingerprints) == 4
  assert wav.files_fingerprint({'a': '1', 'b': '2'}) == wav.files_fingerprint(
    {'b': '2', 'a': '1'}
  )
