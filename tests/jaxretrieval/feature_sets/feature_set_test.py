import hashlib
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxretrieval.feature_sets import captions, feature_set, records
from tests.jaxretrieval import made_up


def same(read, written):
  assert read.captions.texts == written.captions.texts
  assert read.captions.languages == written.captions.languages
  assert read.captions.image_names == written.captions.image_names
  np.testing.assert_array_equal(
    read.captions.image_ids, written.captions.image_ids
  )
  np.testing.assert_array_equal(
    read.captions.image_index, written.captions.image_index
  )
  for field in 'images', 'texts':
    half = getattr(written, field).astype(np.float16)
    np.testing.assert_array_equal(getattr(read, field), half)
    assert getattr(read, field).dtype == np.float16


def test_what_is_written_is_read(tmp_path):
  folder = made_up.write(tmp_path)
  assert folder == tmp_path / 'toy' / 'eye_1-ear_1' / '1.0.0'
  assert [path.name for path in tmp_path.iterdir()] == ['toy'], 'left behind'
  same(feature_set.read(folder, 'train'), made_up.split())
  same(feature_set.read(str(folder), 'test'), made_up.split(2, 200, seed=1))


def test_many_blocks(tmp_path):
  many = made_up.split(2500, languages=('en',))
  folder = made_up.write(tmp_path, splits={'train': many})
  same(feature_set.read(folder, 'train'), many)


def test_captions_come_back_ordered_by_image(tmp_path):
  split = made_up.split()
  # All first captions, then all second ones, as in XTD10.
  order = np.argsort(np.arange(18) % 3, kind='stable')
  shuffled = feature_set.Split(
    split.captions._replace(
      texts=[split.captions.texts[i] for i in order],
      languages=[split.captions.languages[i] for i in order],
      image_index=split.captions.image_index[order],
    ),
    split.images,
    split.texts[order],
  )
  folder = made_up.write(tmp_path, splits={'train': shuffled})
  same(feature_set.read(folder, 'train'), split)


def test_languages_choose_captions_and_keep_the_image_store(tmp_path):
  split = made_up.split()
  # Image 2 has no German caption.
  keep = [i for i in range(18) if i != 8]
  less = split._replace(
    captions=split.captions._replace(
      texts=[split.captions.texts[i] for i in keep],
      languages=[split.captions.languages[i] for i in keep],
      image_index=split.captions.image_index[keep],
    ),
    texts=split.texts[keep],
  )
  folder = made_up.write(tmp_path, splits={'train': less})
  read = feature_set.read(folder, 'train', languages=['de'])
  assert read.captions.image_index.tolist() == [0, 1, 3, 4, 5]
  assert set(read.captions.languages) == {'de'}
  assert len(read.images) == len(read.captions.image_ids) == 6
  german = [2, 5, 11, 14, 17]
  np.testing.assert_array_equal(
    read.texts, split.texts[german].astype(np.float16)
  )
  same(feature_set.read(folder, 'train', languages=[]), less)


def test_what_is_said_of_a_set(tmp_path):
  folder = made_up.write(tmp_path, source={'a.txt': '12ab'})
  info = feature_set.read_info(folder)
  assert (info.name, info.namespace, info.licence) == ('toy', 'toy', 'none')
  assert info.encoders == made_up.ENCODERS
  assert (info.image_dim, info.text_dim, info.dtype) == (4, 3, 'float16')
  assert info.source == {'a.txt': '12ab'}
  about, split = info.splits['train'], made_up.split()
  assert (about['images'], about['captions']) == (6, {'de': 6, 'en': 12})
  ids = np.sort(split.captions.image_ids).astype('<i8').tobytes()
  assert about['image_ids_sha256'] == hashlib.sha256(ids).hexdigest()
  for field, key in (
    ('images', 'mean_squared_image_norm'),
    ('texts', 'mean_squared_text_norm'),
  ):
    stored = getattr(split, field).astype(np.float16).astype(np.float64)
    expected = (stored**2).sum(1).mean()
    assert about[key] == pytest.approx(expected, rel=1e-6)
  shards = sorted(folder.glob('*.array_record-*'))
  assert sorted(info.shards) == [path.name for path in shards]
  for path in shards:
    sum_ = hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.shards[path.name] == {
      'bytes': path.stat().st_size,
      'sha256': sum_,
    }
  assert about['sha256'] != info.splits['test']['sha256']


def test_tfds_reads_it_too(tmp_path):
  folder = made_up.write(tmp_path)
  builder: Any = tfds.builder_from_directory(folder)
  assert len(builder.as_data_source('train')) == 6
  builder = tfds.builder('toy/eye_1-ear_1', data_dir=tmp_path)
  example, split = builder.as_data_source('train')[2], made_up.split()
  assert example['image_id'] == 102
  assert example['image_name'] == b'102.jpg'
  assert list(example['languages']) == [b'en', b'en', b'de']
  assert list(example['captions'])[2] == b'de caption 2 of 102'
  np.testing.assert_array_equal(
    example['caption_hashes'], captions.hashes(split.captions.texts[6:9])
  )
  np.testing.assert_array_equal(example['image'], split.images[2].astype('f2'))
  np.testing.assert_array_equal(example['texts'], split.texts[6:9].astype('f2'))


def test_no_tensorflow(tmp_path):
  code = (
    'import sys\n'
    'from jaxretrieval.feature_sets import feature_set\n'
    'from tests.jaxretrieval import made_up\n'
    f'feature_set.read(made_up.write({str(tmp_path)!r}), "train")\n'
    'assert "tensorflow" not in sys.modules, "TensorFlow was imported"\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr == '', 'a small set is written without a word'


def spoilt(field, row, value, dtype='f4'):
  split = made_up.split()
  array = getattr(split, field).astype(dtype)
  array[row, 1] = value
  return split._replace(**{field: array})


@pytest.mark.parametrize(
  'split, match',
  [
    (spoilt('images', 3, np.nan), r"val: .*image 3 \('103.jpg'\) is NaN"),
    (spoilt('images', 3, np.inf), r'image 3 .*is infinite'),
    (spoilt('images', 3, -np.inf, 'f2'), 'image 3 .*is infinite'),
    (spoilt('images', 0, -70000), r'image 0 .*70000.*65504'),
    (spoilt('texts', 5, np.nan), r"caption 5 \('de caption 2 of 101'\) is NaN"),
    (spoilt('texts', 17, 1e6), 'caption 17 .*reaches 1e.06'),
    (
      made_up.split()._replace(images=np.ones((5, 4), np.float32)),
      r'val: images has shape \[5, 4\]',
    ),
    (
      made_up.split()._replace(texts=np.ones((18, 3, 1), np.float32)),
      r'texts has shape \[18, 3, 1\]',
    ),
    (made_up.split(0), 'val has no images'),
    (
      made_up.split()._replace(images=np.ones((6, 4), np.int32)),
      'image features are int32',
    ),
    (
      made_up.split()._replace(
        captions=made_up.split().captions._replace(
          image_index=np.repeat(np.array([0, 1, 2, 3, 4, 4], np.int32), 3)
        )
      ),
      r'val: image 5 \(105.jpg\) has no caption',
    ),
  ],
)
def test_what_is_refused_is_named_and_leaves_nothing(tmp_path, split, match):
  with pytest.raises(ValueError, match=match):
    made_up.write(tmp_path, splits={'train': made_up.split(), 'val': split})
  assert not list(tmp_path.iterdir())


def test_dims_and_names(tmp_path):
  wide = made_up.split(2)._replace(images=np.ones((2, 5), np.float32))
  with pytest.raises(ValueError, match=r'\(4, 3\), \(5, 3\)'):
    made_up.write(tmp_path, splits={'train': made_up.split(), 'test': wide})
  for name in 'Toy', 'a/b', '', '1x', '../x':
    with pytest.raises(ValueError, match=f'name {name!r}'):
      made_up.write(tmp_path, name)
    with pytest.raises(ValueError, match='split'):
      made_up.write(tmp_path, splits={name: made_up.split()})
  with pytest.raises(ValueError, match='encoders.text='):
    made_up.write(tmp_path, encoders=feature_set.Encoders('a', '漢, mean'))
  with pytest.raises(ValueError, match='no splits'):
    made_up.write(tmp_path, splits={})


def test_float16_takes_what_it_can_hold(tmp_path):
  split = spoilt('images', 0, 65504)
  folder = made_up.write(tmp_path, splits={'train': split})
  assert feature_set.read(folder, 'train').images[0, 1] == 65504


class Stop(BaseException):
  """Like KeyboardInterrupt: not an Exception."""


def test_interrupted_writing_leaves_nothing(tmp_path, monkeypatch):
  def stop(*_):
    raise Stop

  for module, function in (
    (records, 'hashes'),
    (feature_set.atomic, 'file_fingerprint'),
  ):
    with monkeypatch.context() as patch:
      patch.setattr(module, function, stop)
      with pytest.raises(Stop):
        made_up.write(tmp_path)
    assert not list(tmp_path.iterdir()), function
  made_up.write(tmp_path)


def test_written_twice(tmp_path, monkeypatch):
  folder = made_up.write(tmp_path)
  before = (folder / 'feature_set.json').stat().st_mtime_ns
  assert made_up.write(tmp_path) == folder
  assert (folder / 'feature_set.json').stat().st_mtime_ns == before
  with pytest.raises(ValueError, match='toy'):
    made_up.write(tmp_path, splits={'train': made_up.split(seed=5)})
  other = feature_set.Encoders('eye 1, resize 16', 'ear 1, mean')
  with pytest.raises(ValueError, match='resize 8.*resize 16'):
    made_up.write(tmp_path, encoders=other)
  # Another process is faster.
  prepare = records.prepare

  def slower(*args):
    monkeypatch.setattr(records, 'prepare', prepare)
    made_up.write(tmp_path / 'two')
    return prepare(*args)

  monkeypatch.setattr(records, 'prepare', slower)
  made_up.write(tmp_path / 'two')
  assert [path.name for path in (tmp_path / 'two').iterdir()] == ['toy']


@pytest.mark.parametrize('damage', ['truncated', 'changed', 'missing'])
def test_a_damaged_file_is_named(tmp_path, damage):
  folder = made_up.write(tmp_path)
  (path,) = folder.glob('toy-train.*')
  content = path.read_bytes()
  if damage == 'missing':
    path.unlink()
  elif damage == 'truncated':
    path.write_bytes(content[:-1000])
  else:
    path.write_bytes(content[:500] + b'x' + content[501:])
  with pytest.raises(ValueError, match=r'toy-train\.array_record-00000'):
    feature_set.read(folder, 'train')
  feature_set.read(folder, 'test')


def test_what_cannot_be_read(tmp_path):
  with pytest.raises(FileNotFoundError, match='jaxretrieval.extract'):
    feature_set.read_info(tmp_path)
  folder = made_up.write(tmp_path)
  with pytest.raises(ValueError, match="split='dev'.*test, train"):
    feature_set.read(folder, 'dev')
  with pytest.raises(ValueError, match="'jp'.*toy train.*de, en"):
    feature_set.read(folder, 'train', languages=['en', 'jp'])
  with pytest.raises(ValueError, match="languages='en'"):
    feature_set.read(folder, 'train', languages='en')
  path = folder / 'feature_set.json'
  record = json.loads(path.read_text())
  for broken in '{', json.dumps(record | {'colour': 1}), '{"encoders": 3}':
    path.write_text(broken)
    with pytest.raises(ValueError, match=r'feature_set\.json'):
      feature_set.read_info(folder)
