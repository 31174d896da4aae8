import json

import pytest

from jaxretrieval.feature_sets.datasets import coco_captions


def name(number, where='train'):
  return f'COCO_{where}2014_{number:012d}.jpg'


def published(folder, split='train', **changes):
  folder.mkdir(exist_ok=True)
  images = [{'id': n, 'file_name': name(n, split)} for n in (9, 25)]
  annotations = [(25, 'A cat.\n'), (9, 'A dog. '), (25, 'Two\n cats.')]
  content = {
    'images': images,
    'annotations': [
      {'image_id': n, 'caption': text} for n, text in annotations
    ],
  }
  path = folder / f'captions_{split}2014.json'
  path.write_text(json.dumps(content | changes))


def test_the_publishers_files(tmp_path):
  published(tmp_path / 'annotations')
  splits = coco_captions.read(tmp_path)
  assert list(splits) == ['train']
  published(tmp_path / 'annotations', 'val')
  splits = coco_captions.read(tmp_path)
  assert list(splits) == ['train', 'val']
  train = splits['train']
  assert train.image_ids.tolist() == [9, 25]
  assert train.image_names == [name(9), name(25)]
  assert train.texts == ['A dog.', 'A cat.', 'Two cats.']
  assert train.image_index.tolist() == [0, 1, 1]
  assert set(train.languages) == {'en'}


def karpathy(folder, **changes):
  images = [
    ('train', name(9), ['a', 'b']),
    ('val', name(42, 'val'), ['c']),
    ('restval', name(73, 'val'), ['d']),
    ('train', name(25), ['e']),
  ]
  content = {
    'images': [
      {'split': s, 'filename': n, 'sentences': [{'raw': t} for t in texts]}
      for s, n, texts in images
    ]
  }
  path = folder / 'dataset_coco.json'
  path.write_text(json.dumps(content | changes))


def test_karpathy_goes_first(tmp_path):
  published(tmp_path)
  karpathy(tmp_path)
  splits = coco_captions.read(tmp_path)
  assert list(splits) == ['train', 'val', 'restval']
  assert splits['train'].image_ids.tolist() == [9, 25]
  assert splits['train'].texts == ['a', 'b', 'e']
  # Restval is never mixed into train unasked.
  assert splits['restval'].image_ids.tolist() == [73]


@pytest.mark.parametrize(
  'write, changes, match',
  [
    (published, {'images': [{'id': 9}]}, 'not a COCO caption file.*file_name'),
    (published, {'annotations': None}, 'not a COCO caption file'),
    (
      published,
      {'images': [{'id': 9, 'file_name': name(10)}]},
      'image 9 has the file name .*000010',
    ),
    (
      published,
      {'annotations': [{'image_id': 4, 'caption': 'x'}]},
      'image_id=4',
    ),
    (
      published,
      {'annotations': [{'image_id': 9, 'caption': 'x'}]},
      r'image 1 \(COCO_train2014_000000000025.jpg\) has no caption',
    ),
    (karpathy, {'images': [{'split': 'train'}]}, 'not a Karpathy file'),
    (
      karpathy,
      {'images': [{'split': 'val', 'filename': 'x.jpg', 'sentences': []}]},
      "'x.jpg' is not a COCO",
    ),
  ],
)
def test_another_form_is_named(tmp_path, write, changes, match):
  write(tmp_path, **changes)
  with pytest.raises(ValueError, match=rf'\.json.*{match}'):
    coco_captions.read(tmp_path)


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match='captions_train2014.json'):
    coco_captions.read(tmp_path)
  (tmp_path / 'dataset_coco.json').write_text('{')
  with pytest.raises(ValueError, match='dataset_coco.json'):
    coco_captions.read(tmp_path)
