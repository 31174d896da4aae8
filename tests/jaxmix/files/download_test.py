import hashlib
import os

import pytest

from jaxmix.files import download


@pytest.fixture
def published(tmp_path):
  """Returns the URL and the checksum of a file."""
  path = tmp_path / 'published'
  path.write_bytes(b'content')
  return path.as_uri(), f'md5:{hashlib.md5(b"content").hexdigest()}'


def test_a_file_is_downloaded_once_and_verified_always(
  published, tmp_path, capfd
):
  url, checksum = published
  target = tmp_path / 'downloads' / 'a'
  assert download.fetch(url, checksum, target) == target
  assert url in capfd.readouterr().err, 'no progress bar'
  assert target.read_bytes() == b'content'
  (tmp_path / 'published').unlink()
  assert download.fetch(url, checksum, target) == target
  target.write_bytes(b'other')
  with pytest.raises(ValueError, match='md5'):
    download.fetch(url, checksum, target)
  assert os.listdir(target.parent) == ['a']


@pytest.mark.parametrize(
  'url, error',
  [
    (None, ValueError),  # of another checksum
    ('file:///no/a', OSError),
    ('http://127.0.0.1:9/a', OSError),
  ],
)
def test_a_failed_download_leaves_nothing(published, tmp_path, url, error):
  checksum = f'md5:{"0" * 32}'
  with pytest.raises(error, match=None if url else checksum[4:]):
    download.fetch(url or published[0], checksum, tmp_path / 'x' / 'a')
  assert os.listdir(tmp_path / 'x') == []
