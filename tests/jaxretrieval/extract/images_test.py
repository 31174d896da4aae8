import io
import pathlib
import struct
import tarfile
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxretrieval.extract import images


def jpeg(seed=0, size=(12, 9), **options):
  rng = np.random.default_rng(seed)
  image = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8))
  out = io.BytesIO()
  image.save(out, 'JPEG', **options)
  return out.getvalue()


def save_tar(path, members, mode: Any = 'w'):
  with tarfile.open(path, mode) as tar:
    for name, content in members.items():
      info = tarfile.TarInfo(name)
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
  return path


def test_a_folder_and_a_tar_file_hold_the_same(tmp_path):
  content = {'a/1.jpg': jpeg(1), 'b/2.JPG': jpeg(2), 'notes.txt': b'hello'}
  for name, data in content.items():
    (tmp_path / 'f' / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'f' / name).write_bytes(data)
  folder = images.list_images(tmp_path / 'f')
  tar = images.list_images(save_tar(tmp_path / 'f.tar', content))
  assert sorted(folder) == sorted(tar) == ['a/1.jpg', 'b/2.JPG']
  for name in folder:
    one, other = images.read_image(folder[name]), images.read_image(tar[name])
    assert one.mode == 'RGB' and one.tobytes() == other.tobytes()


def test_names_match_by_path_then_base_then_stem():
  def found(*paths):
    return {p: images.File(pathlib.Path(p), 0, 1) for p in paths}

  listed = found('x/1.webp', 'x/2.jpg', '2.jpg', 'y/v1.2.png')
  names = ['1.jpg', '2.jpg', 'v1.2.jpg', 'v1.jpg']
  files = images.match(names, listed)
  assert [f and str(f.path) for f in files] == [
    'x/1.webp',
    '2.jpg',
    'y/v1.2.png',
    None,
  ]
  with pytest.raises(ValueError, match="'1.jpg'.*'a/1.jpg'.*'b/1.jpg'"):
    images.match(['1.jpg'], found('a/1.jpg', 'b/1.jpg'))


def test_a_tar_file_cannot_write_or_point_elsewhere(tmp_path):
  path = tmp_path / 'evil.tar'
  with tarfile.open(path, 'w') as tar:
    link = tarfile.TarInfo('link.jpg')
    link.type, link.linkname = tarfile.SYMTYPE, '/etc/passwd'
    tar.addfile(link)
    hard = tarfile.TarInfo('hard.jpg')
    hard.type, hard.linkname = tarfile.LNKTYPE, '../../etc/passwd'
    tar.addfile(hard)
    above = tarfile.TarInfo('../above.jpg')
    above.size = len(jpeg())
    tar.addfile(above, io.BytesIO(jpeg()))
  listed = images.list_images(path)
  assert list(listed) == ['../above.jpg'], 'links have no pictures'
  assert images.read_image(listed['../above.jpg']).size == (12, 9)
  assert list(tmp_path.iterdir()) == [path], 'something was unpacked'


def huge_png():
  """A small file that says it is 40000 x 40000."""
  head = struct.pack('>IIBBBBB', 40000, 40000, 8, 2, 0, 0, 0)

  def chunk(kind, data):
    body = kind + data
    return (
      struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))
    )

  return (
    b'\x89PNG\r\n\x1a\n'
    + chunk(b'IHDR', head)
    + chunk(b'IDAT', zlib.compress(b'\0' * 1000))
    + chunk(b'IEND', b'')
  )


@pytest.mark.parametrize(
  'content, message',
  [
    (b'', 'UnidentifiedImageError'),
    (b'<html>not found</html>', 'UnidentifiedImageError'),
    (jpeg()[:-60], '(?i)truncated'),
    (huge_png(), 'pixels'),
    (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'Unidentified'),
  ],
)
def test_bad_images_say_what_they_are(tmp_path, content, message):
  path = tmp_path / '1.jpg'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=message):
    images.read_image(images.File(path, 0, len(content)))


def test_a_image_of_too_many_bytes_is_not_read(tmp_path):
  with pytest.raises(ValueError, match='67108864'):
    images.read_image(images.File(tmp_path / 'not there', 0, 2**40))


def test_a_missing_file_is_no_bad_image(tmp_path):
  with pytest.raises(OSError):
    images.read_image(images.File(tmp_path / '1.jpg', 0, 9))


def test_images_are_upright(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # turned by 90 degrees
  path = tmp_path / '1.jpg'
  path.write_bytes(jpeg(size=(12, 9), exif=exif))
  file = images.File(path, 0, path.stat().st_size)
  assert images.read_image(file).size == (9, 12)


def test_sources_that_are_none(tmp_path):
  with pytest.raises(FileNotFoundError, match='x'):
    images.list_images(tmp_path / 'x')
  packed = save_tar(tmp_path / 'a.tar.gz', {'1.jpg': jpeg()}, 'w:gz')
  with pytest.raises(ValueError, match='a.tar.gz'):
    images.list_images(packed)
  whole = save_tar(tmp_path / 'a.tar', {'1.jpg': jpeg(), '2.jpg': jpeg()})
  whole.write_bytes(whole.read_bytes()[: -10240 + 2048 + 600])
  with pytest.raises(ValueError, match='a.tar'):
    images.list_images(whole)
