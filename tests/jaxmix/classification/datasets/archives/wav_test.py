"""WAV files and what they are packed in: read as they are, or named."""

import os
import tarfile
import zipfile

import numpy as np
import pytest

from jaxmix.classification.datasets import inputs
from jaxmix.classification.datasets.archives import wav
from tests.jaxmix.classification import tiny_sounds

SAMPLES = np.array([1, -2, 32767, -32768])
WHOLE = tiny_sounds.wav(SAMPLES, 8000)


def test_samples_are_read_as_they_are():
  read = wav.read_wav(WHOLE, 8000, 'here')
  assert read.dtype == np.int16 and np.array_equal(read, SAMPLES)


@pytest.mark.parametrize(
  'content, message',
  [
    (b'', 'no WAV file'),
    (b'RIFFxxxxWAVE', 'no WAV file'),
    (b'ID3' + WHOLE, 'no WAV file'),
    (WHOLE[:30], 'no WAV file'),
    (WHOLE[:-3], '2 samples of 4'),
    (tiny_sounds.wav([], 8000), '0 samples'),
    (tiny_sounds.wav(SAMPLES, 16_000), '16000 samples a second, expected 8000'),
    (tiny_sounds.wav(SAMPLES, 8000, channels=2), '2 channels of 16 bits'),
    (tiny_sounds.wav([1, 2], 8000, width=1), '1 channels of 8 bits'),
    (tiny_sounds.wav([1, 2], 8000, width=4), '1 channels of 32 bits'),
  ],
)
def test_what_is_no_such_recording_is_named(content, message):
  with pytest.raises(ValueError, match=f'here (has|is) {message}'):
    wav.read_wav(content, 8000, 'here')


def test_a_second_is_cut_or_filled():
  assert wav.one_second(np.arange(9), 4).tolist() == [0, 1, 2, 3]
  assert wav.one_second(np.arange(1, 3), 4).tolist() == [1, 2, 0, 0]


FILES = {'a/x.wav': b'1', 'a/y.wav': b'22', 'b/x.wav': b'3', 'a/z.txt': b'4'}


def read(source, limit=10**5):
  return dict(wav.read_files(source, lambda x: x.endswith('.wav'), limit))


@pytest.mark.parametrize('name', ['set', 'set.zip', 'set.tar.gz'])
@pytest.mark.parametrize('above', ['', './', 'set-1.0/', 'deep/down/'])
def test_files_are_the_same_however_they_are_packed(tmp_path, name, above):
  files = {above + name: content for name, content in FILES.items()}
  source = tiny_sounds.write(tmp_path / name, files)
  assert read(source) == {k: FILES[k] for k in FILES if k.endswith('.wav')}
  if source.is_dir():
    assert read(source / above / 'b') == {'b/x.wav': b'3'}
  assert sorted(os.listdir(tmp_path)) == [name], 'something was unpacked'


@pytest.mark.parametrize('name', ['set', 'set.zip', 'set.tar.gz'])
def test_a_file_that_is_there_twice(tmp_path, name):
  files = {'one/a/x.wav': b'1', 'two/a/x.wav': b'2'}
  source = tiny_sounds.write(tmp_path / name, files)
  with pytest.raises(ValueError, match=r'has a/x\.wav twice'):
    read(source)


@pytest.mark.parametrize('name', ['set.zip', 'set.tar.gz'])
def test_a_cut_or_spoiled_archive(tmp_path, name):
  files = {'a/x.wav': np.random.default_rng(0).bytes(5000)}
  source = tiny_sounds.write(tmp_path / name, files)
  whole = source.read_bytes()
  spoiled = bytearray(whole)
  spoiled[2000] ^= 1
  for content in b'', b'other', whole[:2500], whole[:-4], bytes(spoiled):
    source.write_bytes(content)
    with pytest.raises(ValueError, match='is no whole|cannot be read'):
      read(source)
  with pytest.raises(FileNotFoundError, match=r'nowhere .*data\.source'):
    read(tmp_path / 'nowhere')


@pytest.mark.parametrize('name', ['set.zip', 'set.tar.gz'])
def test_more_than_a_data_set_can_be(tmp_path, name):
  source = tiny_sounds.write(tmp_path / name, {'a/x.wav': bytes(10**6)})
  with pytest.raises(ValueError, match='more than 10000 bytes'):
    read(source, 10**4)
  source = tiny_sounds.write(tmp_path / name, {'a/x.wav': bytes(2**24 + 1)})
  with pytest.raises(ValueError, match='16777217 bytes, expected 1 to'):
    read(source, 10**9)


def test_what_is_no_file(tmp_path):
  os.mkfifo(tmp_path / 'x.wav')
  with pytest.raises(ValueError, match=r'x\.wav is no plain file'):
    read(tmp_path)
  path = tmp_path / 'a.tar'
  for kind in tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE:
    with tarfile.open(path, 'w') as archive:
      member = tarfile.TarInfo('a/x.wav')
      member.type, member.linkname = kind, '/etc/passwd'
      archive.addfile(member)
    with pytest.raises(ValueError, match='is no plain file'):
      read(path)


def test_a_header_that_would_fill_the_memory(tmp_path):
  path = tmp_path / 'a.tar'
  for kind in tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE:
    member = tarfile.TarInfo('x')
    member.type, member.size = kind, 2**32
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2**22))
    with pytest.raises(ValueError, match='header of 4294967296 bytes'):
      read(path, 2**34)
  # A long name that is only long is read.
  name = f'{"long" * 60}/x.wav'
  tiny_sounds.write(tmp_path / 'b.tar.gz', {name: b'1'})
  assert list(read(tmp_path / 'b.tar.gz')) == [name]
  assert issubclass(inputs.SmallHeader, tarfile.TarInfo)


def test_a_zip_that_lies_about_a_size(tmp_path):
  path = tiny_sounds.write(tmp_path / 'a.zip', {'a/x.wav': bytes(1000)})
  content = path.read_bytes()
  # Both places where the size of 1,000 is told.
  path.write_bytes(content.replace((1000).to_bytes(4, 'little'), b'\x0a\0\0\0'))
  with pytest.raises((ValueError, zipfile.BadZipFile), match='no whole'):
    read(path)
