import io
import os
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from jaxmix.files import archives
from tests.jaxmix.classification import tiny_audio

FILES = {'a/x.wav': b'1', 'a/y.wav': b'22', 'b/x.wav': b'3', 'a/z.txt': b'4'}
WAVS = {name: FILES[name] for name in FILES if name.endswith('.wav')}
ARCHIVES = ['set.zip', 'set.tar.gz']


def select(path):
  """The last two parts of the path of a .wav file."""
  return '/'.join(path.split('/')[-2:]) if path.endswith('.wav') else None


def read_all(source, max_total=10**5, max_bytes=10**4):
  return dict(
    archives.iter_files(
      source, select, max_total=max_total, max_bytes=max_bytes
    )
  )


def read_one(source, name='x.wav', max_bytes=10**4, max_total=10**5):
  with archives.open_files(source, 'a', max_total) as read:
    return read(name, max_bytes)


# --- All files in one pass ---


@pytest.mark.parametrize('name', ['set', *ARCHIVES])
@pytest.mark.parametrize('above', ['', './', 'deep/down/'])
def test_a_folder_reads_as_its_archives(tmp_path, name, above):
  files = {above + name: content for name, content in FILES.items()}
  source = tiny_audio.write(tmp_path / name, files)
  assert read_all(source) == WAVS
  assert sorted(os.listdir(tmp_path)) == [name], 'something was extracted'


@pytest.mark.parametrize('name', ['set', *ARCHIVES])
def test_files_of_the_same_name(tmp_path, name):
  files = {'one/a/x.wav': b'1', 'two/a/x.wav': b'2'}
  source = tiny_audio.write(tmp_path / name, files)
  with pytest.raises(ValueError, match=r'a/x\.wav'):
    read_all(source)


@pytest.mark.parametrize('name', ['set', *ARCHIVES])
def test_the_size_of_a_file_is_bounded(tmp_path, name):
  for size in 0, 10**4 + 1:
    source = tiny_audio.write(tmp_path / name, {'a/x.wav': bytes(size)})
    with pytest.raises(ValueError, match=r'x\.wav'):
      read_all(source)


@pytest.mark.parametrize('name', ARCHIVES)
def test_the_size_of_an_archive_is_bounded(tmp_path, name):
  source = tiny_audio.write(tmp_path / name, {'a/x.wav': bytes(10**6)})
  with pytest.raises(ValueError, match='10000:'):
    read_all(source, 10**4)


@pytest.mark.parametrize('name', ARCHIVES)
def test_damaged_archives(tmp_path, name):
  files = {'a/x.wav': np.random.default_rng(0).bytes(5000)}
  source = tiny_audio.write(tmp_path / name, files)
  whole = source.read_bytes()
  flipped = bytearray(whole)
  flipped[2000] ^= 1
  for content in b'', b'other', whole[:2500], whole[:-4], bytes(flipped):
    source.write_bytes(content)
    with pytest.raises(ValueError, match=name):
      read_all(source)


def test_only_regular_files_are_read(tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere'):
    read_all(tmp_path / 'nowhere')
  os.mkfifo(tmp_path / 'x.wav')
  with pytest.raises(FileNotFoundError, match=r'x\.wav'):
    read_all(tmp_path / 'x.wav')
  with pytest.raises(ValueError, match=r'x\.wav'):
    read_all(tmp_path)
  path = tmp_path / 'a.tar'
  for kind in tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE:
    with tarfile.open(path, 'w') as archive:
      member = tarfile.TarInfo('a/x.wav')
      member.type, member.linkname = kind, '/etc/passwd'
      archive.addfile(member)
    with pytest.raises(ValueError, match=r'x\.wav'):
      read_all(path)


def test_large_headers_of_a_tar_are_not_read(tmp_path):
  path = tmp_path / 'a.tar'
  for kind in tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE:
    member = tarfile.TarInfo('x')
    member.type, member.size = kind, 2**32
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2**22))
    with pytest.raises(ValueError, match='4294967296'):
      read_all(path, 2**34)
    with path.open('rb') as file, pytest.raises(ValueError, match='42949672'):
      list(archives.index_tar(file, 'a.tar'))
  # A long name of a reasonable length is read.
  name = f'{"long" * 60}/x.wav'
  tiny_audio.write(tmp_path / 'b.tar.gz', {name: b'1'})
  assert list(read_all(tmp_path / 'b.tar.gz')) == [name]


# --- Single files by name ---


@pytest.fixture
def path(tmp_path):
  return tiny_audio.write(tmp_path / 'set.zip', FILES)


def test_files_by_name(path, tmp_path):
  tiny_audio.write(tmp_path / 'set', FILES)
  for source in path, tmp_path / 'set', tmp_path / 'set' / 'a':
    assert read_one(source) == b'1'
    with pytest.raises((ValueError, FileNotFoundError), match='b/x'):
      read_one(source, 'b/x')
    with pytest.raises(ValueError, match=r'y\.wav'):
      read_one(source, 'y.wav', max_bytes=1)


def test_no_pipe_is_opened(tmp_path):
  os.mkfifo(tmp_path / 'x.wav')
  for source in tmp_path, tmp_path / 'x.wav', tmp_path / 'nowhere':
    with pytest.raises(FileNotFoundError, match=source.name):
      read_one(source)


@pytest.mark.parametrize('part', [0, 1, 0.3, 0.9, 0.999])
def test_incomplete_zip_archives(path, part):
  whole = path.read_bytes()
  path.write_bytes(whole[: part if part == 1 else int(part * len(whole))])
  with pytest.raises(ValueError, match=r'set\.zip'):
    read_one(path)


def test_names_that_lead_elsewhere(tmp_path):
  path = tmp_path / 'a.zip'
  for name in 'b/x.wav', '../a/x.wav', '/a/x.wav':
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr(name, b'x')
    with pytest.raises(ValueError, match=r'a/x\.wav'):
      read_one(path)
  assert os.listdir(tmp_path) == ['a.zip']


def test_sizes_that_a_zip_declares(tmp_path):
  path = tmp_path / 'a.zip'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('a/x.wav', bytes(1234567))
  with pytest.raises(ValueError, match='1234567'):
    read_one(path)
  with pytest.raises(ValueError, match='1234567'):
    read_one(path, max_total=2**21)
  # A member that inflates to more than it declares.
  whole = path.read_bytes()
  assert whole.count(struct.pack('<I', 1234567)) == 2
  path.write_bytes(
    whole.replace(struct.pack('<I', 1234567), struct.pack('<I', 50))
  )
  for read in read_one, read_all:
    with pytest.raises(ValueError, match=r'x\.wav'):
      read(path)


def test_a_large_central_directory_is_not_read(path):
  whole = bytearray(path.read_bytes())
  end = whole.rindex(b'PK\5\6')
  whole[end + 12 : end + 16] = struct.pack('<I', 2**31)
  path.write_bytes(whole)
  with pytest.raises(ValueError, match=r'set\.zip'):
    read_one(path)
  # The directory is really that long, in a sparse file.
  with path.open('r+b') as file:
    file.truncate(2**31)
    file.seek(0, os.SEEK_END)
    file.write(whole[end:])
  for read in read_one, read_all:
    with pytest.raises(ValueError, match='2147483648'):
      read(path)


@pytest.mark.parametrize('read', [read_one, read_all])
def test_unknown_compression_and_encryption(tmp_path, read):
  path = tmp_path / 'a.zip'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_LZMA) as archive:
    archive.writestr('a/x.wav', b'n\n' * 9)
  with pytest.raises(ValueError, match=r'x\.wav'):
    read(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a/x.wav', b'n\n')
  whole = bytearray(path.read_bytes())
  whole[whole.index(b'PK\1\2') + 8] |= 1  # encrypted
  path.write_bytes(whole)
  with pytest.raises(ValueError, match=r'x\.wav'):
    read(path)


@pytest.mark.parametrize('read', [read_one, read_all])
def test_two_members_of_the_same_name(tmp_path, read):
  path = tmp_path / 'a.zip'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a/x.wav', b'n\n')
    with pytest.warns(UserWarning, match='Duplicate'):
      archive.writestr('a/x.wav', b'm\n')
  with pytest.raises(ValueError, match=r'a\.zip'):
    read(path)


# --- The index of a tar archive ---


def pack(files, kind=tarfile.REGTYPE):
  out = io.BytesIO()
  with tarfile.open(fileobj=out, mode='w') as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      member.size, member.type, member.linkname = len(content), kind, '/etc'
      archive.addfile(member, io.BytesIO(content))
  return out.getvalue()


def test_the_index_finds_the_files_of_an_archive_in_another():
  inner = pack(FILES)
  whole = pack({'x': b'1', './inner.tar': inner})
  stream = io.BytesIO(whole)
  outer = dict(
    (name, (offset, size))
    for name, offset, size in archives.index_tar(stream, 'a', 0, len(whole))
  )
  assert list(outer) == ['x', 'inner.tar']
  found = {
    name: whole[offset : offset + size]
    for name, offset, size in archives.index_tar(
      stream, 'a', *outer['inner.tar']
    )
  }
  assert found == FILES


@pytest.mark.parametrize(
  'content',
  [
    pack(FILES)[:600],
    b'no archive' * 99,
    pack({'x': b''}, tarfile.SYMTYPE),
    pack({'x': b''}, tarfile.FIFOTYPE),
  ],
)
def test_the_index_of_what_is_not_a_whole_archive(content):
  # It ends where it must, whatever follows it.
  stream = io.BytesIO(content + pack(FILES))
  with pytest.raises(ValueError, match='inner'):
    list(archives.index_tar(stream, 'inner', 0, len(content)))
