import os
import struct
import zipfile

import pytest

from jaxmix.classification.datasets.archives import tiny_imagenet
from jaxmix.files import archives
from tests.jaxmix.classification import tiny_imagenet_zip
from tests.jaxmix.classification.tiny_imagenet_zip import FOLDER, LAYOUT

MOST = 2**20


def read(source, name='wnids.txt', limit=100, most=MOST):
  with archives.open_files(LAYOUT, source, most) as read:
    return read(name, limit)


@pytest.fixture
def path(tmp_path):
  return tiny_imagenet_zip.write_zip(
    tmp_path / 'a.zip', tiny_imagenet_zip.files()
  )


def test_a_folder_reads_as_its_archive(path, tmp_path):
  files = tiny_imagenet_zip.files()
  folder = tiny_imagenet_zip.write_folder(tmp_path, files)
  for source in path, folder, folder.parent:
    assert read(source) == files['wnids.txt']
    with pytest.raises((ValueError, FileNotFoundError), match='x/y'):
      read(source, 'x/y')
    with pytest.raises(ValueError, match='30 bytes, expected at most 29'):
      read(source, limit=29)


def test_no_file_is_waited_for(tmp_path):
  with pytest.raises(FileNotFoundError, match='JAXMIX_TINY_IMAGENET'):
    read(tmp_path / 'nowhere')
  os.mkfifo(tmp_path / 'pipe')
  os.mkfifo(tmp_path / 'wnids.txt')
  for source in tmp_path / 'pipe', tmp_path:
    with pytest.raises(FileNotFoundError, match='does not exist'):
      read(source)


@pytest.mark.parametrize('part', [0, 1, 0.3, 0.9, 0.999])
def test_what_is_no_whole_archive(path, part):
  whole = path.read_bytes()
  count = part if part == 1 else int(part * len(whole))
  path.write_bytes(whole[:count])
  with pytest.raises(ValueError, match=r'a\.zip is not a whole zip.*fetch'):
    read(path)


def test_another_archive(tmp_path):
  path = tmp_path / 'a.zip'
  for name in 'x/wnids.txt', f'../{FOLDER}/wnids.txt', f'/{FOLDER}/wnids.txt':
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr(name, b'x')
    with pytest.raises(
      ValueError, match=r'no tiny-imagenet-200/wnids.*not htt'
    ):
      read(path)
  assert os.listdir(tmp_path) == ['a.zip']


def spoil(path, name, offset=10):
  """Changes a byte of what is packed of a member."""
  whole = bytearray(path.read_bytes())
  with zipfile.ZipFile(path) as archive:
    start = archive.getinfo(f'{FOLDER}/{name}').header_offset
  whole[start + 30 + len(f'{FOLDER}/{name}') + offset] ^= 0xFF
  path.write_bytes(whole)


def test_damage_is_found(path):
  for offset in 0, 10, 25:
    tiny_imagenet_zip.write_zip(path, tiny_imagenet_zip.files())
    spoil(path, 'wnids.txt', offset)
    with pytest.raises(ValueError, match=r'wnids\.txt is damaged'):
      read(path)
    with pytest.raises(ValueError, match=r'wnids\.txt is damaged'):
      tiny_imagenet.read_source(LAYOUT, path)


def test_what_is_packed_is_bounded(tmp_path):
  path = tmp_path / 'a.zip'
  files = {'wnids.txt': b'n\n', 'x': bytes(1234567)}
  tiny_imagenet_zip.write_zip(path, files)
  assert path.stat().st_size < 3000
  with pytest.raises(ValueError, match='1234569 bytes are packed in it'):
    read(path)
  with pytest.raises(ValueError, match='1234567 bytes, expected at most 100'):
    read(path, 'x', most=2**21)
  # One that lies: more comes out than it says.
  whole = path.read_bytes()
  assert whole.count(struct.pack('<I', 1234567)) == 2
  lied = whole.replace(struct.pack('<I', 1234567), struct.pack('<I', 50))
  path.write_bytes(lied)
  with pytest.raises(ValueError, match='x is damaged'):
    read(path, 'x')


def test_a_list_of_any_size_is_not_read(path):
  whole = bytearray(path.read_bytes())
  end = whole.rindex(b'PK\5\6')
  whole[end + 12 : end + 16] = struct.pack('<I', 2**31)
  path.write_bytes(whole)
  with pytest.raises(ValueError, match=r'a\.zip is not a whole zip'):
    read(path)
  # The list itself is that long, and the archive sparse.
  with path.open('r+b') as file:
    file.truncate(2**31)
    file.seek(0, os.SEEK_END)
    file.write(whole[end:])
  with pytest.raises(ValueError, match='said to have 2147483648 bytes'):
    read(path)


def test_other_kinds_of_members(tmp_path):
  path = tmp_path / 'a.zip'
  name = f'{FOLDER}/wnids.txt'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_LZMA) as archive:
    archive.writestr(name, b'n\n' * 9)
  with pytest.raises(ValueError, match='packed in a way'):
    read(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr(name, b'n\n')
    with pytest.warns(UserWarning, match='Duplicate'):
      archive.writestr(name, b'm\n')
  with pytest.raises(ValueError, match='two files of one name'):
    read(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr(name, b'n\n')
  whole = bytearray(path.read_bytes())
  whole[whole.index(b'PK\1\2') + 8] |= 1  # encrypted
  path.write_bytes(whole)
  with pytest.raises(ValueError, match='packed in a way'):
    read(path)
