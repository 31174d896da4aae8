"""The index of an image store, compared with one in memory."""

import json

import numpy as np
import pytest

from jaxretrieval import search
from jaxretrieval.feature_sets import feature_set
from jaxretrieval.index import image_store, index_files
from jaxretrieval.index.__main__ import main
from tests.jaxretrieval import tiny_index

SIZES = {'a': 50, 'b': 0, 'c': 1, 'd': 69}


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sharded')
  run = tiny_index.save_head(folder / 'export')
  return run, tiny_index.save_features(folder / 'sets')


@pytest.fixture
def place(inputs, tmp_path):
  """The images of the feature set as an image store."""
  whole = feature_set.read(inputs[1], 'test')
  folder = tmp_path / 'gallery'
  encoder = tiny_index.ENCODERS.image
  image_store.start(
    folder, image_store.ImageStore(encoder, 'tiny', 'none', [*SIZES])
  )
  start = 0
  for name, size in SIZES.items():
    rows = slice(start, start + size)
    names = whole.captions.image_names[rows]
    ids = whole.captions.image_ids[rows].tolist()
    record = image_store.ShardRecord(encoder, name, names, ids, {}, '')
    image_store.save(folder, name, record, whole.images[rows])
    start += size
  assert start == tiny_index.IMAGES
  return folder


def write(inputs, images, out):
  run, folder = inputs
  return index_files.write(run, folder, images, out)


@pytest.fixture
def made(inputs, place, tmp_path):
  return write(inputs, place, tmp_path / 'index')


@pytest.mark.parametrize('block', [1, 7, 50, 2**14])
@pytest.mark.parametrize('k', [1, 31, 500])
def test_a_search_finds_what_it_finds_in_ram(
  inputs, made, tmp_path, monkeypatch, block, k
):
  monkeypatch.setattr(index_files, 'load_faiss', lambda: None)
  ram = index_files.load(write(inputs, 'test', tmp_path / 'ram'))
  opened = index_files.load(made)
  texts = feature_set.read(inputs[1], 'test').texts[:20]
  distances, rows = search.search(ram, texts, k)
  monkeypatch.setattr(search, 'BLOCK', block)
  monkeypatch.setattr(search, 'QUERIES', 3)
  found, where = search.search(opened, texts, k)
  np.testing.assert_array_equal(where, rows)
  np.testing.assert_array_equal(found, distances)
  for row in where[0]:
    assert opened.names[row] == ram.names[row]
    assert opened.ids[row] == ram.ids[row]


def test_nothing_is_read_before_a_search(made, monkeypatch):
  def refuse(*args):
    raise AssertionError('opening an index reads its shards')

  monkeypatch.setattr(image_store, 'read_features', refuse)
  monkeypatch.setattr(image_store, 'read_record', refuse)
  opened = index_files.load(made)
  assert len(opened.names) == len(opened.ids) == tiny_index.IMAGES


def test_an_index_can_be_moved_and_the_image_store_go(made, place, tmp_path):
  place.rename(tmp_path / 'gone')
  opened = index_files.load(made.rename(tmp_path / 'elsewhere'))
  assert opened.names[119] == '119.jpg' and opened.ids[119] == 1119
  assert opened.features[119:120].shape == (1, tiny_index.IMAGE_DIM)
  assert opened.info['licence'] == 'none'


def test_a_shard_done_again_does_not_change_an_index(made, place):
  """Hard links: files of a store are replaced, never modified."""
  before = index_files.load(made).features[0:50]
  record = image_store.load(place, 'a')
  assert record
  zeros = np.zeros((50, tiny_index.IMAGE_DIM), np.float16)
  image_store.save(place, 'a', record, zeros)
  np.testing.assert_array_equal(index_files.load(made).features[0:50], before)


def test_a_image_store_on_another_file_system_is_copied(
  inputs, place, tmp_path, monkeypatch
):
  def link(*args):
    raise OSError('Invalid cross-device link')

  monkeypatch.setattr('os.link', link)
  made = write(inputs, place, tmp_path / 'index')
  assert index_files.load(made).names[0] == '000.jpg'


@pytest.mark.parametrize('damage', ['missing', 'cut'])
def test_a_image_store_that_is_not_whole_is_refused(
  inputs, place, tmp_path, damage
):
  path, _ = image_store.paths(place, 'd')
  content = path.read_bytes()
  path.unlink()
  if damage == 'cut':
    path.write_bytes(content[:-5])
  with pytest.raises(ValueError, match='1 of 4 shards .* d:'):
    write(inputs, place, tmp_path / 'index')
  assert not (tmp_path / 'index').exists()


def test_a_image_store_by_another_encoder_is_refused(inputs, tmp_path):
  image_store.start(
    tmp_path / 'g', image_store.ImageStore('camera 2', 'x', 'x', [])
  )
  with pytest.raises(ValueError, match="'camera 2'.*'camera 1"):
    write(inputs, tmp_path / 'g', tmp_path / 'index')


def test_a_image_store_without_images_is_refused(inputs, tmp_path):
  encoder = tiny_index.ENCODERS.image
  image_store.start(
    tmp_path / 'g', image_store.ImageStore(encoder, 'x', 'x', [])
  )
  with pytest.raises(ValueError, match='has no images'):
    write(inputs, tmp_path / 'g', tmp_path / 'index')


def test_a_missing_shard_is_refused(made):
  image_store.paths(made, 'c')[1].unlink()
  with pytest.raises(ValueError, match='1 of 4 shards.* c:'):
    index_files.load(made)


def test_a_changed_record_is_refused_when_it_is_read(made):
  _, path = image_store.paths(made, 'd')
  content = path.read_text()
  path.unlink()  # not the file of the image store
  path.write_text(content.replace('119.jpg', '118.jpg'))
  opened = index_files.load(made)
  assert opened.names[0] == '000.jpg'
  with pytest.raises(ValueError, match='d.json'):
    opened.names[119]


@pytest.mark.parametrize(
  'shards, message',
  [
    ({'../a': [3, 'x']}, 'outside of its folder'),
    ({'a': [-1, 'x']}, 'shard a'),
    ({'a': ['3', 'x']}, 'shard a'),
    ({'a': [3, 4]}, 'shard a'),
    ({'a': [3]}, 'shard a'),
    ({'a': None}, 'shard a'),
    ({'a': 7}, 'damaged'),
    ({'a': [50, 'x']}, 'index.json'),
    ([], 'damaged'),
  ],
)
def test_a_description_from_a_stranger(made, shards, message):
  path = made / index_files.RECORD
  described = json.loads(path.read_text()) | {'shards': shards}
  path.write_text(json.dumps(described))
  with pytest.raises(ValueError, match=message):
    index_files.load(made)


def test_the_commands(inputs, place, tmp_path, capsys):
  run, folder = inputs
  given = [f'--run={run}', f'--features={folder}', f'--gallery={place}']
  given += [f'--out={tmp_path / "index"}']
  assert main(given) == 0
  assert '120 images, searched from 4 shards on disk' in capsys.readouterr().out
  texts = feature_set.read(folder, 'test').texts[:1]
  np.save(tmp_path / 'q.npy', texts)
  asked = [f'--index={tmp_path / "index"}', '--json']
  assert search.main([*asked, f'--text_features={tmp_path / "q.npy"}']) == 0
  near = json.loads(capsys.readouterr().out)['nearest']
  assert len(near) == 10
  assert all(n['id'] == 1000 + int(n['image'][:3]) for n in near)
