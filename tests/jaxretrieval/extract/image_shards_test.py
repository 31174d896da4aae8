import tarfile

import pytest
from PIL import Image

from jaxretrieval.extract import image_shards, images


@pytest.fixture
def image_folder(tmp_path):
  """Seven images, two of them in a subfolder."""
  folder = tmp_path / 'pictures'
  (folder / 'sub').mkdir(parents=True)
  for i in range(7):
    name = f'sub/{i}.png' if i > 4 else f'{i}.png'
    Image.new('RGB', (9 + i, 9), (i, 0, 0)).save(folder / name)
  return folder


def pack(path, folder, names):
  with tarfile.open(path, 'w') as tar:
    for name in names:
      tar.add(folder / name, name)


@pytest.fixture
def tars(tmp_path, image_folder):
  folder = tmp_path / 'tars'
  folder.mkdir()
  pack(folder / 'b.tar', image_folder, ['3.png', '0.png'])
  pack(folder / 'a.tar', image_folder, ['0.png'])
  (folder / 'a.parquet').write_bytes(b'of img2dataset')
  (folder / '._a.tar').write_bytes(b'of a Mac')
  return folder


def colour(file):
  return images.read_image(file).getpixel((0, 0))[0]


def test_a_folder_is_cut_into_equal_shards(image_folder):
  cut = image_shards.cut(image_folder, 3)
  assert [shard.name for shard in cut] == ['00000', '00001', '00002']
  names = [name for shard in cut for name in image_shards.list_files(shard)]
  assert names == [f'{i}.png' for i in range(5)] + ['sub/5.png', 'sub/6.png']
  assert [len(image_shards.list_files(shard)) for shard in cut] == [3, 3, 1]


def test_each_tar_file_is_a_shard_that_nobody_else_opens(tars, monkeypatch):
  opened = []
  real = images.list_images
  monkeypatch.setattr(
    images,
    'list_images',
    lambda path: (opened.append(path.name), real(path))[1],
  )
  cut = image_shards.cut(tars, 3)
  assert [shard.name for shard in cut] == ['a', 'b']
  assert not opened, 'planning reads the tar files of all processes'
  assert [*image_shards.list_files(cut[1])] == ['b.tar/0.png', 'b.tar/3.png']
  assert opened == ['b.tar']
  assert image_shards.fingerprint(cut[1]).startswith('b.tar, ')


def test_a_single_tar_file_is_cut_as_a_folder_is(image_folder, tars):
  cut = image_shards.cut(tars / 'b.tar', 1)
  assert [*image_shards.list_files(cut[0])] == ['0.png']
  assert [shard.name for shard in cut] == ['00000', '00001']


@pytest.mark.parametrize('other', ['x.png', 'sub'])
def test_tar_files_beside_others_are_refused(tars, image_folder, other):
  """Else what is beside them would be left out without a word."""
  (image_folder / ('sub' if other == 'sub' else '0.png')).rename(tars / other)
  with pytest.raises(ValueError, match=other):
    image_shards.cut(tars, 3)


def test_nothing_to_encode(tmp_path):
  with pytest.raises(ValueError, match='neither images nor tar'):
    image_shards.cut(tmp_path, 3)
  with pytest.raises(FileNotFoundError, match='x'):
    image_shards.cut(tmp_path / 'x', 3)


def test_a_changed_source_has_another_fingerprint(image_folder, tars):
  before = [
    image_shards.fingerprint(shard)
    for shard in image_shards.cut(image_folder, 3)
  ]
  Image.new('RGB', (99, 99)).save(image_folder / '4.png')
  after = [
    image_shards.fingerprint(shard)
    for shard in image_shards.cut(image_folder, 3)
  ]
  assert [a == b for a, b in zip(before, after, strict=True)] == [1, 0, 1]
  (shard,) = [s for s in image_shards.cut(tars, 3) if s.name == 'a']
  was = image_shards.fingerprint(shard)
  pack(tars / 'a.tar', image_folder, [f'{i}.png' for i in range(1, 4)] * 9)
  assert image_shards.fingerprint(shard) != was


def test_images_are_found_again_by_their_names(image_folder, tars, monkeypatch):
  for source in (image_folder, tars, tars / 'b.tar'):
    for shard in image_shards.cut(source, 2):
      files = image_shards.list_files(shard)
      assert image_shards.find(source, [*files]) == [*files.values()]
  (zero, none, three) = image_shards.find(
    tars, ['b.tar/0.png', 'b.tar/9.png', 'b.tar/3.png']
  )
  assert zero and three and none is None
  assert (colour(zero), colour(three)) == (0, 3)


def test_names_lead_nowhere_else(tars, image_folder):
  names = ['../tars/a.tar/0.png', 'c.tar/0.png', '0.png', 'a.parquet/0.png', '']
  assert image_shards.find(tars, names) == [None] * 5
