import json

import numpy as np
import pytest

from jaxmix.files import atomic
from jaxretrieval.index import image_store
from jaxretrieval.index.image_store import ImageStore, ShardRecord

ABOUT = ImageStore('camera 1', 'mine', 'my own', ['a', 'b'])
RECORD = ShardRecord(
  'camera 1', 'a.tar, 9 bytes', ['x', 'y'], [3, 2**62], {}, ''
)
FEATURES = np.arange(6, dtype=np.float16).reshape(2, 3)


@pytest.fixture
def folder(tmp_path):
  image_store.start(tmp_path, ABOUT)
  image_store.save(tmp_path, 'a', RECORD, FEATURES)
  return tmp_path


def test_a_shard_is_read_as_it_was_written(folder):
  path, _ = image_store.paths(folder, 'a')
  found = image_store.load(folder, 'a')
  assert found == RECORD._replace(sha256=atomic.file_fingerprint(path))
  np.testing.assert_array_equal(image_store.read_features(path, 0, 2), FEATURES)
  np.testing.assert_array_equal(
    image_store.read_features(path, 1, 2), FEATURES[1:]
  )
  assert image_store.missing(folder, ABOUT.shards) == ['b']
  assert sorted(p.name for p in path.parent.iterdir()) == ['a.json', 'a.npy']


@pytest.mark.parametrize('which', [0, 1])
@pytest.mark.parametrize('damage', ['missing', 'cut', 'other', 'empty'])
def test_a_damaged_shard_is_not_believed(folder, which, damage):
  path = image_store.paths(folder, 'a')[which]
  content = path.read_bytes()
  changed = {'cut': content[:-3], 'other': content[:-3] + b'??}', 'empty': b''}
  path.unlink()
  if damage != 'missing':
    path.write_bytes(changed[damage])
  assert image_store.load(folder, 'a') is None


def test_a_shard_without_a_record_is_not_there(folder, monkeypatch):
  """Killed between the two files."""

  class Killed(BaseException):
    pass

  def dumps(*args):
    raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(json, 'dumps', dumps)
    with pytest.raises(Killed):
      image_store.save(folder, 'b', RECORD, FEATURES)
  path, _ = image_store.paths(folder, 'b')
  assert path.exists() and image_store.load(folder, 'b') is None
  assert image_store.missing(folder, ABOUT.shards) == ['b']
  image_store.save(folder, 'b', RECORD, FEATURES)
  assert image_store.load(folder, 'b')


def test_the_list_of_shards_may_change_and_nothing_else(folder):
  image_store.start(folder, ABOUT._replace(shards=['a', 'b', 'c']))
  assert image_store.read_info(folder).shards == ['a', 'b', 'c']
  for field in ('encoder', 'namespace', 'licence'):
    with pytest.raises(ValueError, match=f'another {field}:'):
      image_store.start(folder, ABOUT._replace(**{field: 'other'}))
  assert image_store.read_info(folder).shards == ['a', 'b', 'c']


def test_a_image_store_that_is_as_it_was_is_not_written(folder, monkeypatch):
  """Of a thousand processes one writes, not each."""
  monkeypatch.setattr(image_store.atomic, 'open_atomic', None)
  image_store.start(folder, ABOUT)


@pytest.mark.parametrize(
  'change, message',
  [
    ({'version': 2}, 'version 2'),
    ({'shards': ['../a']}, 'outside of its folder'),
    ({'shards': ['a/b']}, 'a/b'),
    ({'shards': [3]}, 'outside of its folder'),
    ({'shards': None}, 'damaged'),
    ({'more': 1}, 'damaged'),
  ],
)
def test_a_broken_image_store_is_refused(folder, change, message):
  path = folder / image_store.RECORD
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(ValueError, match=message):
    image_store.read_info(folder)


def test_no_image_store(tmp_path):
  with pytest.raises(FileNotFoundError, match='gallery.json'):
    image_store.read_info(tmp_path)
