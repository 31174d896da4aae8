import json

import numpy as np
import pytest

from jaxretrieval.feature_sets.datasets import arrays, ready_made
from tests.jaxretrieval import made_up

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 4)).astype(np.float32)
TEXTS = RNG.normal(size=(15, 2)).astype(np.float32)
LINES = [f'caption {i // 5} {i % 5}' for i in range(15)]


def about(folder, **more):
  folder.mkdir(parents=True, exist_ok=True)
  content = made_up.ENCODERS._asdict() | more
  (folder / 'encoders.json').write_text(json.dumps(content))
  return folder


def vsepp(folder, images=IMAGES, split='dev', lines=LINES, texts=TEXTS):
  np.save(folder / f'{split}_ims.npy', images)
  np.save(folder / f'{split}_txts.npy', texts)
  (folder / f'{split}_caps.txt').write_text('\n'.join(lines) + '\n')
  return folder


@pytest.mark.parametrize('repeated', [1, 5])
def test_vsepp(tmp_path, repeated):
  folder = vsepp(about(tmp_path), np.repeat(IMAGES, repeated, 0))
  dev = arrays.read_splits(folder)['dev']
  np.testing.assert_array_equal(dev.images, IMAGES)
  np.testing.assert_array_equal(dev.texts, TEXTS)
  assert dev.captions.texts == LINES
  assert dev.captions.image_index.tolist() == [i // 5 for i in range(15)]
  assert set(dev.captions.languages) == {'en'}
  assert arrays.read(folder)['dev'].texts == LINES


def test_vsepp_with_one_caption_an_image(tmp_path):
  images = RNG.normal(size=(15, 4)).astype(np.float32)
  images[7] = images[2]  # two images may look alike
  dev = arrays.read_splits(vsepp(about(tmp_path), images))['dev']
  assert dev.captions.image_index.tolist() == list(range(15))
  assert len(dev.images) == 15


def test_images_are_known_again_by_their_features(tmp_path):
  folder = about(tmp_path)
  vsepp(folder, IMAGES, 'train')
  other = np.concatenate([RNG.normal(size=(2, 4)), IMAGES[1:2]])
  vsepp(folder, other.astype(np.float32), 'test')
  splits = arrays.read_splits(folder)
  assert arrays.namespace(splits) == 'image-features'
  train, test = (splits[k].captions.image_ids for k in ('train', 'test'))
  assert np.intersect1d(train, test).tolist() == [train[1]] == [test[2]]


@pytest.mark.parametrize(
  'wrong, match',
  [
    ({'lines': LINES[:14]}, 'dev_caps.txt has 14 captions for 3 rows'),
    ({'texts': TEXTS[:5]}, '15 captions for 3 rows .* 5 rows of dev_txts.npy'),
    ({'images': np.ones((30, 4))}, '15 captions for 30 rows'),
    ({'lines': [' ', *LINES[1:]]}, r'dev: caption 0 \(en, of dev_0\) is empty'),
    ({'texts': np.array([None] * 15)}, 'dev_txts.npy.*pickled'),
  ],
)
def test_vsepp_that_does_not_fit(tmp_path, wrong, match):
  with pytest.raises(ValueError, match=match):
    arrays.read_splits(vsepp(about(tmp_path), **wrong))


def clip_retrieval(folder, parts, names='{}.jpg', language=None):
  import pyarrow
  from pyarrow import parquet

  for place in 'img_emb', 'text_emb', 'metadata':
    (folder / place).mkdir(parents=True, exist_ok=True)
  start = 0
  for number, pairs in parts.items():
    rows = np.array(pairs)
    stop = start + len(rows)
    np.save(folder / f'img_emb/img_emb_{number}.npy', IMAGES[rows])
    np.save(folder / f'text_emb/text_emb_{number}.npy', TEXTS[start:stop])
    table = {
      'image_path': [names.format(row) for row in rows],
      'caption': LINES[start:stop],
    }
    if language:
      table['language'] = [language] * len(rows)
    path = folder / f'metadata/metadata_{number}.parquet'
    parquet.write_table(pyarrow.table(table), path)
    start = stop
  return folder


def test_clip_retrieval(tmp_path):
  pytest.importorskip('pyarrow', reason='parquet files need pyarrow')
  # Parts count 0, 2, 10; an image may come in several of them.
  parts = {'0': [0, 1], '10': [0, 1], '2': [2, 0, 0]}
  ordered = {'0': parts['0'], '2': parts['2'], '10': parts['10']}
  folder = clip_retrieval(about(tmp_path, language='fr'), ordered)
  train = arrays.read_splits(folder)['train']
  np.testing.assert_array_equal(train.images, IMAGES)
  assert train.captions.image_names == ['0.jpg', '1.jpg', '2.jpg']
  order = [0, 3, 4, 5, 1, 6, 2]
  assert train.captions.texts == [LINES[i] for i in order]
  np.testing.assert_array_equal(train.texts, TEXTS[order])
  assert train.captions.image_index.tolist() == [0, 0, 0, 0, 1, 1, 2]
  assert set(train.captions.languages) == {'fr'}


def test_clip_retrieval_splits_named_as_in_coco(tmp_path):
  pytest.importorskip('pyarrow', reason='parquet files need pyarrow')
  about(tmp_path)
  names = '/data/COCO_train2014_{:012d}.jpg'
  for split in 'train', 'test':
    clip_retrieval(tmp_path / split, {'0': [0, 2]}, names, 'pl')
  splits = arrays.read_splits(tmp_path)
  assert list(splits) == ['test', 'train']
  assert arrays.namespace(splits) == 'coco'
  assert splits['train'].captions.image_ids.tolist() == [0, 2]
  assert set(splits['test'].captions.languages) == {'pl'}


def test_clip_retrieval_that_does_not_fit(tmp_path):
  pytest.importorskip('pyarrow', reason='parquet files need pyarrow')
  folder = clip_retrieval(about(tmp_path), {'0': [0, 1], '1': [2]})
  np.save(folder / 'text_emb/text_emb_1.npy', TEXTS[:2])
  with pytest.raises(ValueError, match='img_emb_1.npy has 1 rows.* 2'):
    arrays.read_splits(folder)
  (folder / 'metadata/metadata_0.parquet').unlink()
  with pytest.raises(FileNotFoundError, match='metadata_0.parquet'):
    arrays.read_splits(folder)


def plain(folder, **changes):
  content = {
    'images': IMAGES,
    'texts': TEXTS[:4],
    'image_index': np.array([2, 0, 1, 2]),
    'captions': np.array(LINES[:4]),
    'languages': np.array(['en', 'de', 'en', 'de']),
    'image_names': np.array([f'{i}_0123456789.jpg' for i in range(3)]),
  }
  content = {k: v for k, v in (content | changes).items() if v is not None}
  np.savez(folder / 'val.npz', **content)
  return folder


def test_plain(tmp_path):
  splits = arrays.read_splits(plain(about(tmp_path)))
  val = splits['val']
  assert val.captions.texts == [LINES[i] for i in (1, 2, 0, 3)]
  assert val.captions.languages == ['de', 'en', 'en', 'de']
  np.testing.assert_array_equal(val.texts, TEXTS[[1, 2, 0, 3]])
  assert arrays.namespace(splits) == 'flickr'
  assert val.captions.image_ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
  'changes, match',
  [
    ({'captions': None}, 'val.npz lacks .*captions'),
    ({'texts': TEXTS}, 'texts has 15 rows for 4 captions'),
    ({'image_index': np.ones(4)}, 'image_index is float64'),
    ({'image_index': np.array([0, 1, 3, 2])}, r'image_index\[2\]=3'),
    ({'image_index': np.array([0, 0, 1, 1])}, 'image 2 .* has no caption'),
    (
      {'captions': np.array(LINES[:4], object)},
      "val.npz.*'captions'.*pickled",
    ),
    ({'images': IMAGES.astype(object)}, "val.npz.*'images'.*pickled"),
  ],
)
def test_plain_that_does_not_fit(tmp_path, changes, match):
  with pytest.raises(ValueError, match=match):
    arrays.read_splits(plain(about(tmp_path), **changes))


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match='encoders.json'):
    arrays.read_splits(tmp_path)
  with pytest.raises(FileNotFoundError, match='_ims.npy.*img_emb.*npz'):
    arrays.read_splits(about(tmp_path))


class Bomb:
  """Unpickled, it would leave a mark."""

  def __reduce__(self):
    return (print, ('a pickle was run',))


def test_pickles_are_refused_and_not_run(tmp_path, capsys):
  array = np.array([Bomb()], object)
  np.save(tmp_path / 'a.npy', array, allow_pickle=True)
  np.savez(tmp_path / 'b.npz', features=array)
  (tmp_path / 'c.npy').write_bytes((tmp_path / 'a.npy').read_bytes()[128:])
  for name in 'a.npy', 'b.npz', 'c.npy':
    with pytest.raises(ValueError, match=f'{name}.*pickled'):
      ready_made.load(tmp_path / name)
  assert 'a pickle was run' not in capsys.readouterr().out


def test_broken_arrays_are_named(tmp_path):
  np.save(tmp_path / 'a.npy', TEXTS)
  np.savez(tmp_path / 'b.npz', x=TEXTS, y=TEXTS)
  with pytest.raises(ValueError, match=r"\['x', 'y'\].*'features'"):
    ready_made.load(tmp_path / 'b.npz')
  np.testing.assert_array_equal(ready_made.load(tmp_path / 'b.npz', 'y'), TEXTS)
  for name in 'a.npy', 'b.npz':
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=name):
      ready_made.load(path, 'x')


def test_files_are_what_their_names_say(tmp_path):
  np.savez(tmp_path / 'a.npz', x=TEXTS)
  np.save(tmp_path / 'b.npy', TEXTS)
  (tmp_path / 'a.npz').rename(tmp_path / 'a.npy')
  (tmp_path / 'b.npy').rename(tmp_path / 'b.npz')
  for name in 'a.npy', 'b.npz':
    with pytest.raises(ValueError, match=name):
      ready_made.load(tmp_path / name)
  with pytest.raises(ValueError, match='b.npz'):
    arrays.read_splits(about(tmp_path))


def test_encoders_must_be_reported(tmp_path):
  for content in '{', '[]', '{"image": "a"}', '{"image": "a", "text": 3}':
    (tmp_path / 'encoders.json').write_text(content)
    with pytest.raises(ValueError, match='encoders.json'):
      ready_made.encoders(tmp_path)
