import json

import pytest

from jaxretrieval.extract import caption_files

ROWS = [
  ('b.jpg', 'en', 'a "dog", running'),
  ('a.jpg', 'de', 'ein Hund'),
  ('b.jpg', 'de', 'noch ein Hund'),
]


def write(path, rows, header=caption_files.COLUMNS):
  if path.suffix == '.jsonl':
    lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
  elif path.suffix == '.tsv':
    lines = ['\t'.join(row) for row in [header, *rows]]
  else:
    quoted = [[f'"{v.replace(chr(34), chr(34) * 2)}"' for v in r] for r in rows]
    lines = [','.join(row) for row in [header, *quoted]]
  path.write_bytes(b'\xef\xbb\xbf' + '\r\n'.join(lines).encode())
  return path


@pytest.mark.parametrize('suffix', ['.jsonl', '.csv', '.tsv'])
def test_all_kinds_say_the_same(tmp_path, suffix):
  path = write(tmp_path / f'c{suffix}', ROWS)
  found = caption_files.from_file(
    path, namespace='mine', licence='x', split='dev'
  )
  assert list(found.splits) == ['dev'] and list(found.source) == [path.name]
  dev = found.splits['dev']
  assert dev.image_names == ['b.jpg', 'a.jpg']
  assert dev.texts == ['a "dog", running', 'noch ein Hund', 'ein Hund']
  assert dev.languages == ['en', 'de', 'de']
  assert dev.image_index.tolist() == [0, 0, 1]
  assert dev.image_ids.tolist() == [
    caption_files.name_id('b.jpg'),
    caption_files.name_id('a.jpg'),
  ]


def test_a_column_of_splits_and_known_namespaces(tmp_path):
  rows = [('1_a0.jpg', 'en', 'x', 'train'), ('2_b0.jpg', 'en', 'y', '')]
  path = write(tmp_path / 'c.tsv', rows, (*caption_files.COLUMNS, 'split'))
  found = caption_files.from_file(
    path, namespace='flickr', licence='x', split='test'
  )
  ids = {key: c.image_ids.tolist() for key, c in found.splits.items()}
  assert ids == {'train': [1], 'test': [2]}
  assert list(caption_files.select_split(found, 'train').splits) == ['train']
  with pytest.raises(ValueError, match="split='dev'.*train, test"):
    caption_files.select_split(found, 'dev')


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('c.txt', 'x', 'jsonl, .csv or .tsv'),
    ('c.jsonl', '', 'no captions'),
    ('c.jsonl', '{"image": "a"}\n', 'line 1: language=None'),
    ('c.jsonl', '\n[1]\n', 'line 2'),
    ('c.jsonl', '{', 'line 1'),
    ('c.csv', 'image,caption\n', 'language is missing'),
    ('c.csv', 'image,language,caption\na,en\n', 'line 2: caption=None'),
    ('c.tsv', 'image\tlanguage\tcaption\na\ten\t \n', "line 2: caption=' '"),
    ('c.tsv', 'image\tlanguage\tcaption\na\tXX\tb\n', "language 'XX'"),
  ],
)
def test_bad_files(tmp_path, name, content, message):
  path = tmp_path / name
  path.write_text(content)
  with pytest.raises(ValueError, match=message):
    caption_files.read(path, namespace='mine', split='test')


def test_a_file_that_is_not_there_or_no_text(tmp_path):
  with pytest.raises(FileNotFoundError, match='c.csv'):
    caption_files.read(tmp_path / 'c.csv', namespace='m', split='test')
  (tmp_path / 'c.csv').write_bytes(b'\xff\xfe\x00')
  with pytest.raises(ValueError, match='c.csv'):
    caption_files.read(tmp_path / 'c.csv', namespace='m', split='test')
