import json

import ml_collections
import numpy as np
import pytest

from jaxretrieval.feature_sets import captions, feature_set, locate
from jaxretrieval.training import training_set
from tests.jaxretrieval import made_up

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
  assert '1 of 3 images have no caption in de, en' in capsys.readouterr().err


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
    (['en', 'jp'], {}, "'jp' is not in the training set, which has de, en, fr"),
    ('en', {}, 'give a list'),
    ([], {'sampling': 'pair'}, "sampling='pair' is not 'image' or 'caption'"),
    ([], {'balance': 'image'}, "balance='image' is not"),
    ([], {'sampling': 'caption', 'balance': 'language'}, 'use sampling='),
  ],
)
def test_bad_options_are_named(languages, options, match):
  with pytest.raises(ValueError, match=match):
    training_set.training_arrays(uneven(), languages, **options)


def test_first_images():
  split = uneven()
  assert training_set.first_images(split, 0) is split
  two = training_set.first_images(split, 2)
  captions.check(two.captions)
  assert two.captions.image_names == ['5.jpg', '3.jpg']
  assert two.captions.texts == split.captions.texts[:7]
  np.testing.assert_array_equal(two.texts, split.texts[:7])
  for number in 4, -1:
    with pytest.raises(ValueError, match=f'train_images={number}: there are 3'):
      training_set.first_images(split, number)


def info(name='toy', namespace='coco', image='eye 1, x', text='ear 1'):
  encoders = feature_set.Encoders(image, text)
  return feature_set.Info(name, namespace, encoders, '', {}, 1, 3, '', {}, {})


def test_encoders_may_not_be_mixed():
  training_set.check_same_encoders(info('a'), info('b'))
  with pytest.raises(ValueError, match="image features of a .*'eye 1, x'.*'I'"):
    training_set.check_same_encoders(info('a'), info('b', image='I'))
  with pytest.raises(ValueError, match="text features of a .*'ear 1'.*'T'"):
    training_set.check_same_encoders(info('a'), info('b', text='T'))


def test_an_image_of_xtd10_is_refused_in_training(shared, capsys):
  from jaxretrieval.feature_sets.datasets import xtd10

  said = xtd10.read(shared('xtd10'))['test']
  test = feature_set.Split(said, np.ones((1000, 1)), np.ones((11000, 1)))
  rows = [(i, 'en', f'caption {i}') for i in range(4)]
  names = ['COCO_train2014_000000000009.jpg', said.image_names[17]]
  names += [
    'COCO_train2014_000000000025.jpg',
    'COCO_train2014_000000000030.jpg',
  ]
  ids = [captions.coco_id(name) for name in names]
  train = feature_set.Split(
    captions.build(ids, names, rows),
    np.arange(4, dtype=np.float16)[:, None],
    np.arange(4, dtype=np.float16)[:, None],
  )
  coco, xtd = info('coco_captions'), info('xtd10')
  with pytest.raises(ValueError) as error:
    training_set.drop_overlap(train, coco, test, xtd, on_overlap='refuse')
  for word in (
    f'ids {ids[1]}.',
    '1 of 4 training images',
    'coco_captions',
    'xtd10',
    '--config.data.on_overlap=drop',
  ):
    assert word in str(error.value)
  left = training_set.drop_overlap(train, coco, test, xtd, on_overlap='drop')
  assert left.captions.image_names == [names[0], names[2], names[3]]
  assert left.captions.texts == ['caption 0', 'caption 2', 'caption 3']
  assert left.texts[:, 0].tolist() == left.images[:, 0].tolist() == [0, 2, 3]
  captions.check(left.captions)
  assert f'ids {ids[1]}. They are dropped' in capsys.readouterr().err
  assert not training_set.overlap(left, coco, test, xtd).size
  with pytest.raises(ValueError, match='nothing is left'):
    training_set.drop_overlap(test, xtd, test, xtd, on_overlap='drop')
  with pytest.raises(ValueError, match="on_overlap='ignore' is not"):
    training_set.drop_overlap(train, coco, test, xtd, on_overlap='ignore')


def test_ids_of_two_namespaces_are_not_compared():
  split = uneven()
  args = split, info(namespace='coco'), split, info(namespace='flickr')
  assert not training_set.overlap(*args).size
  assert training_set.drop_overlap(*args, on_overlap='refuse') is split


def test_flickr8k_test_images_are_found_in_multi30k(shared):
  from jaxretrieval.feature_sets.datasets import flickr8k

  # Multi30K's names have the number alone.
  test = flickr8k.read(shared('flickr8k'))['test']
  some = [f'{name.partition("_")[0]}.jpg' for name in test.image_names[:871]]
  some += ['1000092795.jpg']
  ids = [captions.flickr_id(name) for name in some]
  rows = [(i, 'en', 'x') for i in range(872)]
  train = captions.build(ids, some, rows)
  both = [
    feature_set.Split(c, np.ones((len(c.image_ids), 1)), np.ones((1, 1)))
    for c in (train, test)
  ]
  multi30k, flickr = info('multi30k', 'flickr'), info('flickr8k', 'flickr')
  assert training_set.overlap(both[0], multi30k, both[1], flickr).size == 871
  with pytest.raises(ValueError, match=r'871 of 872 .*(\d+, ){5}\.\.\.'):
    training_set.drop_overlap(
      both[0], multi30k, both[1], flickr, on_overlap='refuse'
    )


# Finding sets.


def ref(**fields):
  return ml_collections.ConfigDict(
    {'name': '', 'source': '', 'dir': '', 'text_encoder': ''} | fields
  )


def write_arrays(folder, seed=0):
  """A folder of `arrays`, plain; more of its layouts in arrays_test."""
  split = made_up.split(seed=seed)
  folder.mkdir(exist_ok=True)
  np.savez(
    folder / 'train.npz',
    images=split.images,
    texts=split.texts,
    image_index=split.captions.image_index,
    captions=split.captions.texts,
    languages=split.captions.languages,
  )
  about = made_up.ENCODERS._asdict() | {'licence': 'mine'}
  (folder / 'encoders.json').write_text(json.dumps(about))
  return str(folder)


def test_a_ready_set_is_found_by_its_folder(tmp_path):
  folder = made_up.write(tmp_path)
  assert locate.find(ref(name='features', source=str(folder))) == folder
  with pytest.raises(FileNotFoundError, match='not a feature set'):
    locate.find(ref(name='features', source=str(tmp_path)))


def test_prepared_once_and_found_again(tmp_path, monkeypatch, capsys):
  source = write_arrays(tmp_path / 'mine')
  folder = locate.find(ref(name='arrays', source=source))
  assert folder == tmp_path / 'default/arrays/eye_1-ear_1/1.0.0'
  assert 'Preparing' in capsys.readouterr().err
  made = feature_set.read_info(folder)
  assert (made.namespace, made.licence) == ('image-features', 'mine')
  assert set(made.source) == {'train.npz', 'encoders.json'}
  monkeypatch.setattr(feature_set, 'write', None)  # not needed any more
  assert locate.find(ref(name='arrays', source=source)) == folder
  assert locate.find(ref(name='arrays')) == folder
  assert (
    locate.find(ref(name='arrays', dir=str(tmp_path / 'default'))) == folder
  )
  assert capsys.readouterr().err == ''
  write_arrays(tmp_path / 'mine', seed=1)
  with pytest.raises(ValueError, match=r'is not what .*\(train.npz differ\)'):
    locate.find(ref(name='arrays', source=source))


def test_what_is_not_there(tmp_path):
  with pytest.raises(ValueError, match="name='cifar10' is not one of"):
    locate.find(ref(name='cifar10'))
  with pytest.raises(FileNotFoundError, match='xtd10 is not in .*source'):
    locate.find(ref(name='xtd10'))
  with pytest.raises(FileNotFoundError, match='nowhere'):
    locate.find(ref(name='xtd10', source=str(tmp_path / 'nowhere')))
  for encoders in made_up.ENCODERS, feature_set.Encoders('eye 2', 'ear 1'):
    made_up.write(tmp_path, 'arrays', encoders=encoders)
  with pytest.raises(ValueError, match='eye_1-ear_1, eye_2-ear_1'):
    locate.find(ref(name='arrays', dir=str(tmp_path)))


def test_one_of_several_text_encoders_is_chosen(tmp_path):
  for text in ('mUSE 3, large', 'LASER 2', 'laserlike'):
    encoders = made_up.ENCODERS._replace(text=text)
    made_up.write(tmp_path, 'arrays', encoders=encoders)
  block = ref(name='arrays', dir=str(tmp_path), text_encoder='muse')
  found = feature_set.read_info(locate.find(block))
  assert found.encoders.text == 'mUSE 3, large'
  for wanted, count in (('laser', 2), ('labse', 0), ('', 3)):
    block.text_encoder = wanted
    with pytest.raises(ValueError, match=f'fits {count} of the sets'):
      locate.find(block)
  only = locate.find(ref(name='arrays', dir=str(tmp_path), text_encoder='mu'))
  block = ref(name='features', source=str(only), text_encoder='laser')
  with pytest.raises(ValueError, match='config.evals.x.text_encoder'):
    locate.find(block, 'config.evals.x')
  with pytest.raises(ValueError, match='make retrieval'):
    locate.find(ref(name='features'))


def test_features_beside_captions(shared, tmp_path):
  """XTD10 with made-up features: what a user with ResNet-152 does."""
  source = tmp_path / 'xtd10'
  source.mkdir()
  for place in 'XTD10', 'MIC', 'STAIR':
    (source / place).symlink_to(shared('xtd10') / place)
  block = ref(name='xtd10', source=str(source))
  with pytest.raises(FileNotFoundError, match='encoders.json'):
    locate.find(block)
  about = json.dumps(made_up.ENCODERS._asdict())
  (source / 'encoders.json').write_text(about)
  with pytest.raises(FileNotFoundError, match='test_image_features.npy'):
    locate.find(block)
  images = np.arange(1000, dtype=np.float32)[:, None]
  np.save(source / 'image_features.npy', images)
  np.savez(source / 'test_text_features.npz', np.ones((10999, 2)))
  with pytest.raises(ValueError, match='10999 rows, test has 11000 captions'):
    locate.find(block)
  texts = np.arange(11000)[:, None] % 11 * np.ones(2)
  np.savez(source / 'test_text_features.npz', texts)
  folder = locate.find(block)
  made = feature_set.read_info(folder)
  assert made.namespace == 'coco'
  assert 'non-commercial' in made.licence
  assert len(made.source) == 15
  ja = feature_set.read(folder, 'test', languages=['ja'])
  assert len(ja.captions.texts) == len(ja.images) == 1000
  assert len(np.unique(ja.texts)) == 1, 'features of another language'
  np.testing.assert_array_equal(ja.images, images.astype(np.float16))


def test_flickr8k_as_shared(flickr8k_folder, shared):
  made = feature_set.read_info(flickr8k_folder)
  assert made.namespace == 'flickr'
  assert made.encoders.image.startswith('efficientnet-lite2-pytorch 0.1.0, ')
  counts = {k: (v['images'], v['captions']) for k, v in made.splits.items()}
  assert counts == {
    'train': (6000, {'en': 30000, 'de': 5528, 'fr': 5528, 'cs': 5528}),
    'dev': (1000, {'en': 5000, 'de': 934, 'fr': 934, 'cs': 934}),
    'test': (1000, {'en': 5000, 'de': 929, 'fr': 929, 'cs': 929}),
  }
  train = made.splits['train']
  assert train['mean_squared_image_norm'] == pytest.approx(178, abs=0.5)
  assert train['mean_squared_text_norm'] == pytest.approx(1, abs=1e-3)
  test = feature_set.read(flickr8k_folder, 'test', languages=['cs'])
  assert (len(test.images), len(test.texts)) == (1000, 929)
  # Images and captions have the rows of the arrays that they came from.
  import gzip

  source = shared('flickr8k')
  packed = (source / 'captions.json.gz').read_bytes()
  images = json.loads(gzip.decompress(packed))['images']
  rows = [i for i, image in enumerate(images) if image['split'] == 'test']
  assert test.captions.image_names == [images[i]['file'] for i in rows]
  with np.load(source / 'image_features.npz') as arrays:
    np.testing.assert_array_equal(test.images, arrays['features'][rows])
  with np.load(source / 'text_features_cs.npz') as arrays:
    keep = np.isin(arrays['image_index'], rows)
    np.testing.assert_array_equal(test.texts, arrays['features'][keep])
  assert test.captions.texts == [
    text for i in rows for text in images[i].get('cs', [])
  ]
