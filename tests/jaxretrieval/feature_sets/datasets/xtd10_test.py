import json
import shutil

import pytest

from jaxretrieval.feature_sets import captions
from jaxretrieval.feature_sets.datasets import xtd10

# Of the publisher's commit d77ff16, read by eye: the first and last captions.
FIRST = {
  'en': 'major league baseball game with player from pittsburgh pirates '
  'crossing home plate',
  'ja': '黒いユニフォームのランナーがホームに帰ってきた',
  'ru': 'игра основной бейсбольной лиги',
  'zh': '棒球大联盟联赛上，匹兹堡海盗队的球员穿过本垒',
}


def copy(shared, tmp_path):
  for place in 'XTD10', 'MIC', 'STAIR':
    shutil.copytree(shared('xtd10') / place, tmp_path / place)
  return tmp_path


def in_language(split, code):
  """Captions of one language, in the order of the images."""
  return [
    text
    for text, spoken in zip(split.texts, split.languages, strict=True)
    if spoken == code
  ]


def test_all_eleven_languages(shared):
  splits = xtd10.read(shared('xtd10'))
  assert list(splits) == ['test']
  split = splits['test']
  assert set(split.languages) == set(xtd10.LANGUAGES)
  assert len(xtd10.LANGUAGES) == 11
  assert len(split.image_ids) == 1000
  for code in xtd10.LANGUAGES:
    assert len(in_language(split, code)) == 1000, code
  # The first image of eleven captions, by row.
  assert split.image_index.tolist() == [row // 11 for row in range(11000)]
  for code, text in FIRST.items():
    assert in_language(split, code)[0] == text
  assert not any('\r' in text or '\n' in text for text in split.texts)
  assert split.image_names[0] == 'COCO_train2014_000000061844.jpg'
  assert split.image_ids[0] == 61844
  places = [name.split('_')[1] for name in split.image_names]
  assert (places.count('train2014'), places.count('val2014')) == (800, 200)


@pytest.mark.parametrize(
  'name, lines', [('XTD10/test_1kcaptions_es.txt', 999), ('MIC/x', 0)]
)
def test_a_file_of_another_length_is_named(shared, tmp_path, name, lines):
  folder = copy(shared, tmp_path)
  if lines:
    path = folder / name
    path.write_bytes(b'\r\n'.join(path.read_bytes().split(b'\r\n')[:lines]))
    with pytest.raises(ValueError, match='kcaptions_es.txt has 999 lines'):
      xtd10.read(folder)
  else:
    (folder / 'MIC' / 'test_1kcaptions_fr.txt').unlink()
    with pytest.raises(FileNotFoundError, match='kcaptions_fr.txt'):
      xtd10.read(folder)


def test_an_empty_caption_is_refused(shared, tmp_path):
  folder = copy(shared, tmp_path)
  path = folder / 'XTD10' / 'test_1kcaptions_ko.txt'
  lines = path.read_bytes().split(b'\r\n')
  path.write_bytes(b'\r\n'.join([b' ', *lines[1:]]))
  with pytest.raises(ValueError, match=r'\(ko, of COCO_train2014.* is empty'):
    xtd10.read(folder)


def write_json(folder, split, code, theirs, stem='xtd10', **changes):
  content = {
    'image_paths': [f'/data/images/{name}' for name in split.image_names],
    'annotations': in_language(split, code),
    'indicies': list(range(1000)),  # as they write it
  }
  content = {k: v for k, v in (content | changes).items() if v is not None}
  path = folder / f'{stem}-{theirs}.json'
  path.write_text(json.dumps(content, ensure_ascii=False), 'utf-8')


def test_json_of_clip_benchmark_is_the_same(shared, tmp_path):
  split = xtd10.read(shared('xtd10'))['test']
  for code in xtd10.LANGUAGES:
    theirs = 'jp' if code == 'ja' else code
    write_json(tmp_path, split, code, theirs)
  read = xtd10.read(tmp_path)['test']
  assert read.texts == split.texts
  assert read.languages == split.languages
  assert read.image_names == split.image_names
  assert (read.image_ids == split.image_ids).all()


def test_json_of_some_languages_and_the_right_spelling(shared, tmp_path):
  split = xtd10.read(shared('xtd10'))['test']
  older = 'multilingual_mscoco_captions'
  write_json(tmp_path, split, 'ja', 'jp', older, indicies=None)
  right = list(range(1000))
  write_json(tmp_path, split, 'it', 'it', indicies=None, indices=right)
  read = xtd10.read(tmp_path)['test']
  assert set(read.languages) == {'ja', 'it'}
  assert in_language(read, 'ja') == in_language(split, 'ja')
  captions.check(read)


@pytest.mark.parametrize(
  'changes, match',
  [
    ({'annotations': None}, "'annotations' is not a list of strings"),
    ({'annotations': [['a']] * 1000}, "'annotations' is not a list of strings"),
    ({'annotations': ['a'] * 999}, "'annotations' has 999 rows"),
    ({'image_paths': 'x'}, "'image_paths' is not a list"),
    ({'indices': list(range(1, 1001))}, 'indices'),
    (
      {'image_paths': ['COCO_val2014_000000000042.jpg'] * 1000},
      'other images than .*xtd10-en.json',
    ),
  ],
)
def test_json_of_another_shape_is_named(shared, tmp_path, changes, match):
  split = xtd10.read(shared('xtd10'))['test']
  write_json(tmp_path, split, 'en', 'en')
  write_json(tmp_path, split, 'de', 'de', **changes)
  with pytest.raises(ValueError, match=f'xtd10-de.json.*{match}'):
    xtd10.read(tmp_path)


def test_nothing_there(tmp_path):
  with pytest.raises(FileNotFoundError, match='adobe-research'):
    xtd10.read(tmp_path)
  (tmp_path / 'xtd10-en.json').write_text('[')
  with pytest.raises(ValueError, match='xtd10-en.json'):
    xtd10.read(tmp_path)
