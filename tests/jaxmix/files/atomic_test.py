import hashlib
import os

import pytest

from jaxmix.files import atomic


def test_fingerprint(tmp_path):
  path = tmp_path / 'a'
  path.write_bytes(b'content')
  for name in 'sha256', 'md5':
    expected = hashlib.new(name, b'content').hexdigest()
    assert atomic.file_fingerprint(path, name) == expected
  os.mkfifo(tmp_path / 'pipe')
  for name in 'pipe', 'missing':
    with pytest.raises(FileNotFoundError, match=name):
      atomic.file_fingerprint(tmp_path / name)


def test_a_file_appears_when_it_is_complete(tmp_path):
  path = tmp_path / 'a'
  with atomic.open_atomic(path) as file:
    file.write(b'new')
    assert not path.exists()
  with pytest.raises(KeyError), atomic.open_atomic(path) as file:
    file.write(b'other')
    raise KeyError
  assert path.read_bytes() == b'new' and os.listdir(tmp_path) == ['a']


def test_text_replaces_a_file_or_leaves_it(tmp_path, monkeypatch):
  path = tmp_path / 'a'
  atomic.write_text(path, 'old')

  def fail(path):
    raise OSError('the disk is full')

  with monkeypatch.context() as patch:
    patch.setattr(atomic, 'sync', fail)
    with pytest.raises(OSError):
      atomic.write_text(path, 'new')
  assert path.read_text() == 'old' and os.listdir(tmp_path) == ['a']
  # A symbolic link in the place of the temporary file is not followed.
  (tmp_path / 'a.part').symlink_to(tmp_path / 'victim')
  atomic.write_text(path, 'new')
  assert path.read_text() == 'new' and os.listdir(tmp_path) == ['a']
