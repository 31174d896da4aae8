import gzip
import json

import numpy as np
import pytest

from jaxretrieval.feature_sets.datasets import flickr8k, ready_made

IMAGES = [
  {'file': '11_0123456789.jpg', 'split': 'test', 'en': ['a', 'b'], 'de': ['c']},
  {'file': '12_0123456789.jpg', 'split': 'unused', 'en': ['d'], 'de': ['e']},
  {'file': '13_0123456789.jpg', 'split': 'train', 'en': ['f'], 'de': []},
  {'file': '14_0123456789.jpg', 'split': 'dev', 'en': ['g ']},
  {'file': '15_0123456789.jpg', 'split': 'test', 'en': ['h'], 'de': ['i']},
]


def write(folder, images=IMAGES, **changes):
  content = gzip.compress(json.dumps({'images': images}).encode())
  (folder / 'captions.json.gz').write_bytes(content)
  arrays = {
    'image_features': {'features': np.arange(5, dtype='f2')[:, None]},
    'text_features_en': {
      'features': np.arange(6, dtype='f2')[:, None],
      'image_index': np.array([0, 0, 1, 2, 3, 4], np.int32),
    },
    'text_features_de': {
      'features': 100 + np.arange(3, dtype='f2')[:, None],
      'image_index': np.array([0, 1, 4], np.int32),
    },
  }
  for name, content in (arrays | changes).items():
    np.savez(folder / f'{name}.npz', **content)
  return folder


def test_features_go_with_their_captions(tmp_path):
  splits = flickr8k.read_splits(write(tmp_path))
  assert list(splits) == ['train', 'dev', 'test']
  test = splits['test']
  rows = zip(
    test.captions.image_index.tolist(),
    test.captions.languages,
    test.captions.texts,
    test.texts[:, 0].tolist(),
    strict=True,
  )
  assert list(rows) == [
    (0, 'de', 'c', 100),
    (0, 'en', 'a', 0),
    (0, 'en', 'b', 1),
    (1, 'de', 'i', 102),
    (1, 'en', 'h', 5),
  ]
  assert test.images[:, 0].tolist() == [0, 4]
  assert test.captions.image_ids.tolist() == [11, 15]
  assert splits['dev'].captions.texts == ['g']
  assert splits['dev'].texts.tolist() == [[4]]
  for split, read in flickr8k.read(tmp_path).items():
    assert read.texts == splits[split].captions.texts


@pytest.mark.parametrize(
  'changes, match',
  [
    (
      {'image_features': {'features': np.ones((4, 1))}},
      'image_features.npz has 4 rows for 5 images',
    ),
    (
      {
        'text_features_de': {
          'features': np.ones((3, 1)),
          'image_index': np.array([0, 2, 4], np.int32),
        }
      },
      'features_de.npz has 3 rows',
    ),
    (
      {'text_features_en': {'features': np.ones((6, 1)), 'x': np.ones(1)}},
      "features_en.npz.*'image_index'",
    ),
    (
      {'image_features': {'features': np.array([['x', None]], object)}},
      'image_features.npz.*pickled',
    ),
  ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, match):
  with pytest.raises(ValueError, match=match):
    flickr8k.read_splits(write(tmp_path, **changes))


def test_missing_and_broken_files(tmp_path):
  with pytest.raises(FileNotFoundError, match='captions.json.gz'):
    flickr8k.read(tmp_path)
  write(tmp_path)
  (tmp_path / 'text_features_de.npz').unlink()
  with pytest.raises(FileNotFoundError, match='text_features_de.npz'):
    flickr8k.read_splits(tmp_path)
  for content in b'x', gzip.compress(b'{"images": [{"file": "x"}]}'):
    (tmp_path / 'captions.json.gz').write_bytes(content)
    with pytest.raises(ValueError, match='captions.json.gz'):
      flickr8k.read(tmp_path)


def test_encoders_of_other_features_must_be_reported(tmp_path):
  write(tmp_path)
  with pytest.raises(FileNotFoundError, match='encoders.json'):
    flickr8k.encoders(tmp_path)
  (tmp_path / ready_made.ABOUT).write_text('{"image": "a", "text": "b"}')
  assert flickr8k.encoders(tmp_path) == ('a', 'b')


def test_the_official_split(shared):
  splits = flickr8k.read(shared('flickr8k'))
  images = {split: len(read.image_ids) for split, read in splits.items()}
  assert images == {'train': 6000, 'dev': 1000, 'test': 1000}
  ids = np.concatenate([read.image_ids for read in splits.values()])
  assert len(np.unique(ids)) == 8000
  assert splits['test'].languages.count('fr') == 929
