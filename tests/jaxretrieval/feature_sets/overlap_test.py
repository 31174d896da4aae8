import numpy as np
import pytest

from jaxretrieval.feature_sets import captions, feature_set, overlap


def three_images():
  """Three images with three, two and one captions."""
  rows = [(0, 'en', 'a dog'), (0, 'de', 'ein Hund'), (0, 'en', 'runs')]
  rows += [(1, 'fr', 'un chat'), (1, 'fr', 'deux chats'), (2, 'en', 'runs')]
  built = captions.build([5, 3, 9], ['5.jpg', '3.jpg', '9.jpg'], rows)
  texts = np.arange(18, dtype=np.float16).reshape(6, 3)
  return feature_set.Split(built, np.array([[1], [2], [3]], np.float16), texts)


def test_first_images():
  split = three_images()
  assert overlap.first_images(split, 0) is split
  two = overlap.first_images(split, 2)
  captions.check(two.captions)
  assert two.captions.image_names == ['5.jpg', '3.jpg']
  assert two.captions.texts == split.captions.texts[:5]
  np.testing.assert_array_equal(two.texts, split.texts[:5])
  for number in 4, -1:
    with pytest.raises(ValueError, match=f'train_images={number}'):
      overlap.first_images(split, number)


def info(name='toy', namespace='coco', image='eye 1, x', text='ear 1'):
  encoders = feature_set.Encoders(image, text)
  return feature_set.FeatureSetInfo(
    name, namespace, encoders, '', {}, 1, 3, '', {}, {}
  )


def test_encoders_may_not_be_mixed():
  overlap.check_same_encoders(info('a'), info('b'))
  with pytest.raises(ValueError, match="image features of a.*'I'"):
    overlap.check_same_encoders(info('a'), info('b', image='I'))
  with pytest.raises(ValueError, match="text features of a.*'T'"):
    overlap.check_same_encoders(info('a'), info('b', text='T'))


def test_an_image_of_xtd10_is_refused_in_training(shared, capsys):
  from jaxretrieval.feature_sets.datasets import xtd10

  xtd10_test = xtd10.read(shared('xtd10'))['test']
  test = feature_set.Split(xtd10_test, np.ones((1000, 1)), np.ones((11000, 1)))
  rows = [(i, 'en', f'caption {i}') for i in range(4)]
  names = ['COCO_train2014_000000000009.jpg', xtd10_test.image_names[17]]
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
    overlap.drop_overlap(train, coco, test, xtd, on_overlap='refuse')
  for word in (
    f'ids {ids[1]}.',
    '1 of 4 training images',
    'coco_captions',
    'xtd10',
    '--config.data.on_overlap=drop',
  ):
    assert word in str(error.value)
  left = overlap.drop_overlap(train, coco, test, xtd, on_overlap='drop')
  assert left.captions.image_names == [names[0], names[2], names[3]]
  assert left.captions.texts == ['caption 0', 'caption 2', 'caption 3']
  assert left.texts[:, 0].tolist() == left.images[:, 0].tolist() == [0, 2, 3]
  captions.check(left.captions)
  assert f'ids {ids[1]}' in capsys.readouterr().err
  assert not overlap.shared_image_ids(left, coco, test, xtd).size
  with pytest.raises(ValueError, match='1000 of 1000'):
    overlap.drop_overlap(test, xtd, test, xtd, on_overlap='drop')
  with pytest.raises(ValueError, match="on_overlap='ignore'"):
    overlap.drop_overlap(train, coco, test, xtd, on_overlap='ignore')


def test_ids_of_two_namespaces_are_not_compared():
  split = three_images()
  args = split, info(namespace='coco'), split, info(namespace='flickr')
  assert not overlap.shared_image_ids(*args).size
  assert overlap.drop_overlap(*args, on_overlap='refuse') is split


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
  assert (
    overlap.shared_image_ids(both[0], multi30k, both[1], flickr).size == 871
  )
  with pytest.raises(ValueError, match=r'871 of 872 .*(\d+, ){5}\.\.\.'):
    overlap.drop_overlap(
      both[0], multi30k, both[1], flickr, on_overlap='refuse'
    )
