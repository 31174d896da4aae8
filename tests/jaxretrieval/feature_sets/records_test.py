import json
import os
import shutil

import numpy as np
import pytest

from jaxmix.files import atomic
from jaxretrieval.feature_sets import feature_set, locate, records
from tests.jaxretrieval import made_up

DESCRIPTIONS = ('dataset_info.json', 'features.json')


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  return made_up.write(tmp_path_factory.mktemp('set'))


@pytest.fixture
def folder(written, tmp_path):
  return shutil.copytree(written, tmp_path / 'toy' / 'eye_1-ear_1' / '1.0.0')


@pytest.mark.parametrize('name', DESCRIPTIONS)
@pytest.mark.parametrize('how', ['missing', 'cut', 'pipe', 'list', 'empty'])
def test_a_description_that_is_not_one(folder, name, how):
  path = folder / name
  text = path.read_text()
  path.unlink()
  if how == 'pipe':
    os.mkfifo(path)
  elif how != 'missing':
    content = {'cut': text[: len(text) // 2], 'list': '[]', 'empty': ''}[how]
    path.write_text(content)
  with pytest.raises(ValueError, match=name):
    feature_set.read(folder, 'train')


@pytest.mark.parametrize('name', [*DESCRIPTIONS, 'feature_set.json'])
def test_descriptions_that_say_something_else(folder, name):
  # Whatever is changed in them, the answer is an error that names the folder,
  # or the very same features.
  whole = feature_set.read(folder, 'train')
  rng = np.random.default_rng(0)
  text = (folder / name).read_text('utf-8')
  refused = 0
  for _ in range(100):
    spot, letter = int(rng.integers(len(text))), chr(rng.integers(32, 127))
    changed = text[:spot] + letter + text[spot + 1 :]
    (folder / name).write_text(changed, 'utf-8')
    try:
      read = feature_set.read(folder, 'train')
    except (ValueError, FileNotFoundError) as error:
      refused += 1
      assert str(folder) in str(error) or 'split=' in str(error), error
      continue
    np.testing.assert_array_equal(read.images, whole.images)
    np.testing.assert_array_equal(read.texts, whole.texts)
    assert read.captions.texts == whole.captions.texts
  assert refused > 10


@pytest.mark.parametrize(
  'images, texts, message',
  [
    ((5, 4), (18, 3), "'image'.* 24 .*5 rows of 4"),
    ((7, 4), (18, 3), '6 images and 18 captions .* 7 and 18'),
    ((6, 5), (18, 3), "'image'.* 24 .*6 rows of 5"),
    ((6, 4), (17, 3), "'texts'.* 54 .*17 rows of 3"),
    ((6, 4), (19, 3), '6 images and 18 captions .* 6 and 19'),
    ((6, 4), (18, 2), "'texts'.* 54 .*18 rows of 2"),
  ],
)
def test_other_numbers_than_reported(folder, images, texts, message):
  with pytest.raises(ValueError, match=message):
    records.read(folder, 'train', images, texts)


@pytest.mark.parametrize(
  'change',
  [
    {'splits': []},
    {'splits': {'train': {'images': '6', 'captions': {'en': 18}}}},
    {'splits': {'train': {'images': 6}}},
    {'splits': {'dev': {'images': 6, 'captions': {'en': 18}}}},
    {'shards': {}},
    {'shards': {'toy-train.x': {'bytes': 3}}},
    {'image_dim': 0},
    {'encoders': 3},
  ],
)
def test_a_record_of_another_making(folder, change):
  path = folder / 'feature_set.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(ValueError, match=r'feature_set\.json'):
    feature_set.read_info(folder)


def test_a_pipe_is_not_hashed(folder, tmp_path):
  os.mkfifo(tmp_path / 'captions')
  with pytest.raises(FileNotFoundError, match='captions'):
    atomic.file_fingerprint(tmp_path / 'captions')
  (shard,) = folder.glob('toy-train.*')
  shard.unlink()
  os.mkfifo(shard)
  with pytest.raises(ValueError, match=r'toy-train.*missing'):
    feature_set.read(folder, 'train')


def test_another_version_is_not_read(folder, tmp_path):
  old = folder.rename(folder.with_name('0.9.0'))
  old.parent.parent.rename(tmp_path / 'flickr8k')
  ref = {'name': 'flickr8k', 'source': '', 'text_encoder': ''}
  with pytest.raises(FileNotFoundError) as error:
    locate.find(ref | {'dir': str(tmp_path)})
  message = str(error.value)
  assert '1.0.0' in message
  assert str(tmp_path / 'flickr8k/eye_1-ear_1/0.9.0') in message
