import numpy as np
import pytest

from jaxretrieval.feature_sets import captions, feature_set
from jaxretrieval.training import training_set

LANGUAGES = ('en', 'de', 'fr', 'cs')


def uneven():
  """Three images: five captions (3 en, 2 de), two (fr), one (en)."""
  rows = [(0, 'en', 'a dog'), (0, 'en', 'A  DOG'), (0, 'de', 'ein Hund')]
  rows += [(0, 'en', 'runs'), (0, 'de', 'Hund'), (1, 'fr', 'un chat')]
  rows += [(1, 'fr', 'deux chats'), (2, 'en', 'runs')]
  built = captions.build([5, 3, 9], ['5.jpg', '3.jpg', '9.jpg'], rows)
  texts = np.arange(24, dtype=np.float16).reshape(8, 3)
  return feature_set.Split(built, np.array([[1], [2], [3]], np.float16), texts)


def test_a_row_for_each_image():
  split = uneven()
  arrays = training_set.training_arrays(split, [])
  assert {k: (v.shape, str(v.dtype)) for k, v in arrays.items()} == {
    'image': ((3, 1), 'float16'),
    'image_id': ((3,), 'int32'),
    'text': ((3, 5, 3), 'float16'),
    'caption': ((3, 5), 'int32'),
    'cdf': ((3, 5), 'float32'),
  }
  np.testing.assert_array_equal(arrays['text'][0], split.texts[:5])
  np.testing.assert_array_equal(arrays['text'][1, :2], split.texts[5:7])
  np.testing.assert_array_equal(arrays['text'][2, 0], split.texts[7])
  assert not arrays['text'][1, 2:].any()
  assert not arrays['text'][2, 1:].any()
  assert arrays['image_id'].tolist() == [0, 1, 2]
  expected = [[0.2, 0.4, 0.6, 0.8, 1], [0.5, 1, 1, 1, 1], [1] * 5]
  np.testing.assert_allclose(arrays['cdf'], expected, rtol=1e-6)
  caption = arrays['caption']
  assert caption[0, 0] == caption[0, 1], 'equal but for case and spaces'
  assert caption[0, 3] == caption[2, 0], 'the same caption of another image'
  assert (caption[1, 2:] == -1).all()
  assert (caption[2, 1:] == -1).all()
  real = caption[caption >= 0]
  assert sorted(set(real.tolist())) == list(range(6)), 'not dense'


def test_balance_by_language_is_even_over_languages(capsys):
  arrays = training_set.training_arrays(
    uneven(), ['en', 'de'], balance='language'
  )
  # Three of en share one half, two of de the other.
  chance = np.diff(arrays['cdf'], axis=1, prepend=0)
  expected = [[1 / 6, 1 / 6, 1 / 4, 1 / 6, 1 / 4], [1, 0, 0, 0, 0]]
  np.testing.assert_allclose(chance, expected, atol=1e-6)
  assert arrays['image'][:, 0].tolist() == [1, 3]
  assert '1 of 3 images' in capsys.readouterr().err


@pytest.mark.parametrize('balance', ['caption', 'language'])
def test_probabilities_are_those_of_a_loop(balance):
  rng = np.random.default_rng(3)
  rows = [(i, 'en', f'first {i}') for i in range(40)]
  rows += [
    (int(i), str(code), f'{i} {code} {k}')
    for k, (i, code) in enumerate(
      zip(rng.integers(0, 40, 150), rng.choice(LANGUAGES, 150), strict=True)
    )
  ]
  built = captions.build(range(40), [f'{i}' for i in range(40)], rows)
  texts = np.arange(190, dtype=np.float16)[:, None]
  split = feature_set.Split(built, np.ones((40, 1), np.float16), texts)
  wanted = ['en', 'de', 'cs']
  arrays = training_set.training_arrays(split, wanted, balance=balance)
  chance = np.diff(arrays['cdf'].astype(np.float64), axis=1, prepend=0)
  for i in range(40):
    own = [
      row
      for row in np.flatnonzero(built.image_index == i)
      if built.languages[row] in wanted
    ]
    spoken = [built.languages[row] for row in own]
    expected = [
      1 / len(own)
      if balance == 'caption'
      else 1 / len(set(spoken)) / spoken.count(code)
      for code in spoken
    ]
    np.testing.assert_allclose(chance[i, : len(own)], expected, atol=1e-6)
    assert not chance[i, len(own) :].any(), 'padding could be drawn'
    assert arrays['cdf'][i, len(own) - 1] == 1, 'u just below 1 draws padding'
    assert arrays['text'][i, : len(own), 0].tolist() == own


def test_a_row_for_each_caption():
  split = uneven()
  arrays = training_set.training_arrays(split, ['en', 'fr'], sampling='caption')
  assert arrays['image'][:, 0].tolist() == [1, 1, 1, 2, 2, 3]
  assert arrays['image_id'].tolist() == [0, 0, 0, 1, 1, 2]
  np.testing.assert_array_equal(
    arrays['text'][:, 0], split.texts[[0, 1, 3, 5, 6, 7]]
  )
  assert arrays['text'].shape == (6, 1, 3)
  assert arrays['caption'].shape == arrays['cdf'].shape == (6, 1)
  assert (arrays['cdf'] == 1).all()


@pytest.mark.parametrize(
  'languages, options, match',
  [
    (['en', 'jp'], {}, "'jp'.*de, en, fr"),
    ('en', {}, "languages='en'"),
    ([], {'sampling': 'pair'}, "sampling='pair'"),
    ([], {'balance': 'image'}, "balance='image'"),
    (
      [],
      {'sampling': 'caption', 'balance': 'language'},
      "balance='language'.*sampling='image'",
    ),
  ],
)
def test_bad_options_are_named(languages, options, match):
  with pytest.raises(ValueError, match=match):
    training_set.training_arrays(uneven(), languages, **options)
