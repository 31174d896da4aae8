import json

import ml_collections
import numpy as np
import pytest

from jaxretrieval.feature_sets import feature_set, locate
from tests.jaxretrieval import made_up


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
  with pytest.raises(FileNotFoundError, match='feature_set.json'):
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
  with pytest.raises(ValueError, match='train.npz'):
    locate.find(ref(name='arrays', source=source))


def test_what_is_not_there(tmp_path):
  with pytest.raises(ValueError, match="name='cifar10'"):
    locate.find(ref(name='cifar10'))
  with pytest.raises(FileNotFoundError, match='xtd10.*config.data.source'):
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
    with pytest.raises(ValueError, match=f'matches {count} of'):
      locate.find(block)
  only = locate.find(ref(name='arrays', dir=str(tmp_path), text_encoder='mu'))
  block = ref(name='features', source=str(only), text_encoder='laser')
  with pytest.raises(ValueError, match='config.evals.x.text_encoder'):
    locate.find(block, 'config.evals.x')
  with pytest.raises(ValueError, match='config.data.source'):
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
  with pytest.raises(ValueError, match='10999 rows.*11000 captions'):
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


@pytest.mark.slow
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
