import gzip

import pytest

from jaxretrieval.feature_sets.datasets import multi30k

SIZES = {'train': 7, 'val': 3, 'test': 2}
STEMS = {'train': 'train', 'val': 'val', 'test': 'test_2016_flickr'}


@pytest.fixture(autouse=True)
def small(monkeypatch):
  assert multi30k.SIZES == {'train': 29_000, 'val': 1_014, 'test': 1_000}
  monkeypatch.setattr(multi30k, 'SIZES', SIZES)


def write(root, raw, lists, packed, languages=('en', 'de', 'fr', 'cs')):
  (root / raw).mkdir(parents=True, exist_ok=True)
  (root / lists).mkdir(parents=True, exist_ok=True)
  for number, (split, stem) in enumerate(STEMS.items()):
    names = [f'{1000 * number + i}.jpg\n' for i in range(SIZES[split])]
    (root / lists / f'{stem}.txt').write_text(''.join(names))
    for code in languages:
      lines = [f'{code} {split} {i} \n' for i in range(SIZES[split])]
      content = ''.join(lines).encode()
      if packed:
        content = gzip.compress(content)
      path = root / raw / f'{stem}.{code}{".gz" if packed else ""}'
      path.write_bytes(content)
  return root


@pytest.mark.parametrize(
  'raw, lists, packed',
  [
    ('data/task1/raw', 'data/task1/image_splits', True),
    ('raw', 'image_splits', True),
    ('.', '.', False),
  ],
)
def test_layouts(tmp_path, raw, lists, packed):
  splits = multi30k.read(write(tmp_path, raw, lists, packed))
  assert list(splits) == ['train', 'val', 'test']
  for number, (split, read) in enumerate(splits.items()):
    count = SIZES[split]
    ids = [1000 * number + i for i in range(count)]
    assert read.image_ids.tolist() == ids
    assert read.image_names == [f'{i}.jpg' for i in ids]
    assert read.languages == ['en', 'de', 'fr', 'cs'] * count
    assert read.texts[4:8] == [
      f'{code} {split} 1' for code in ('en', 'de', 'fr', 'cs')
    ]


def test_some_languages(tmp_path):
  splits = multi30k.read(write(tmp_path, '.', '.', True, ('en', 'de')))
  assert set(splits['test'].languages) == {'en', 'de'}


def test_lines_are_counted_and_files_named(tmp_path):
  folder = write(tmp_path, 'raw', '.', True)
  path = folder / 'raw' / 'val.fr.gz'
  whole = path.read_bytes()
  path.write_bytes(gzip.compress(b'un\ndeux\n'))
  with pytest.raises(ValueError, match=r'val\.fr\.gz has 2 lines'):
    multi30k.read(folder)
  path.write_bytes(whole[:-9])
  with pytest.raises(ValueError, match=r'val\.fr\.gz'):
    multi30k.read(folder)
  path.unlink()
  with pytest.raises(FileNotFoundError, match=r'val\.fr'):
    multi30k.read(folder)
  path.write_bytes(whole)
  (folder / 'val.txt').write_text('1.jpg\n1.jpg\n2.jpg\n')
  with pytest.raises(ValueError, match='same id 1'):
    multi30k.read(folder)


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match='train.txt.*multi30k/dataset'):
    multi30k.read(tmp_path)
