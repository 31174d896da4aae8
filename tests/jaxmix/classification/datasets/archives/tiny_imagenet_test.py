import hashlib

import numpy as np
import pytest

from jaxmix.classification.datasets import array_records, prepare, splits
from jaxmix.classification.datasets.archives import tiny_imagenet
from jaxmix.classification.datasets.specs import DATASETS
from tests.jaxmix.classification import photos, tiny_imagenet_zip
from tests.jaxmix.classification.compare import assert_same, check_source
from tests.jaxmix.classification.tiny_imagenet_zip import SPEC, WNIDS

TRAIN = f'train/{WNIDS[1]}/images/{WNIDS[1]}_2.JPEG'


def write(tmp_path, form, contents):
  if form == 'zip':
    return tiny_imagenet_zip.write_zip(tmp_path / 'a.zip', contents)
  return tiny_imagenet_zip.write_folder(tmp_path, contents)


def arrays(split):
  images, pairs = tiny_imagenet_zip.expected()[split]
  labels = np.array([label for _, label in pairs], np.int32)
  return {'image': np.stack(images), 'label': labels}


@pytest.fixture
def tiny(monkeypatch):
  monkeypatch.setitem(DATASETS, 'tiny_imagenet', SPEC)


@pytest.mark.parametrize('form', ['zip', 'folder', 'parent'])
def test_images_and_classes(tmp_path, form, capfd):
  source = write(tmp_path, form, tiny_imagenet_zip.files())
  source = tmp_path if form == 'parent' else source
  splits, sha256 = tiny_imagenet.read_source(SPEC, source)
  for split in 'train', 'test':
    assert_same(splits[split], arrays(split))
  assert 'Decoding tiny_imagenet train: 100%' in capfd.readouterr().err
  grey = splits['train']['image'][1]
  assert (grey[..., :1] == grey).all() and grey.std() > 5
  assert tiny_imagenet.source_fingerprints(SPEC, source) == sha256


def test_fingerprints_are_of_names_and_contents(tmp_path):
  files = tiny_imagenet_zip.files()
  path = tiny_imagenet_zip.write_zip(tmp_path / 'a.zip', files)
  sums = tiny_imagenet.source_fingerprints(SPEC, path)
  folder = tiny_imagenet_zip.write_folder(tmp_path, files)
  assert tiny_imagenet.source_fingerprints(SPEC, folder) == sums
  by_hand = b''.join(
    f'{name} {len(files[name])}\n'.encode() + files[name]
    for name, _ in tiny_imagenet_zip.expected()['train'][1]
  )
  for name, content in [
    ('wnids.txt', files['wnids.txt']),
    ('val/val_annotations.txt', files['val/val_annotations.txt']),
    ('images of train', by_hand),
  ]:
    assert sums[name] == hashlib.sha256(content).hexdigest()
  # Another image changes the fingerprint of its split only.
  files['val/images/val_0.JPEG'] = tiny_imagenet_zip.image(50)
  tiny_imagenet_zip.write_zip(path, files)
  changed = tiny_imagenet.source_fingerprints(SPEC, path)
  assert {n for n in sums if sums[n] != changed[n]} == {'images of test'}


def test_a_prepared_set_is_read_in_both_ways(data_config, tiny, tmp_path):
  source = write(tmp_path, 'zip', tiny_imagenet_zip.files())
  root = str(tmp_path / 'data')
  block = data_config(name='tiny_imagenet', dir=root, source=str(source))
  folder = splits._find(block)
  assert folder.parts[-3:] == ('jaxmix_tiny_imagenet', 'tiny_imagenet', '1.0.0')
  block.source = ''
  source.unlink()
  for split in 'train', 'test':
    loaded = array_records.load_split(splits._find(block), block.name, split)
    assert_same(loaded, arrays(split))
    opened = array_records.open_split(splits._find(block), block.name, split)
    check_source(opened, loaded, [0, 5, 3, -1])


def test_nowhere_says_what_to_do(data_config, tmp_path):
  with pytest.raises(FileNotFoundError) as error:
    splits.load(data_config(name='tiny_imagenet', dir=str(tmp_path)), 'train')
  for words in 'tiny-imagenet-200.zip', 'JAXMIX_TINY_IMAGENET', 'data.source':
    assert words in str(error.value)


def lose(*names):
  def change(files):
    for name in list(files):
      if name.startswith(names):
        del files[name]

  return change


def put(name, content):
  return lambda files: files.update({name: content})


def edit(name, old, new):
  def change(files):
    assert old in files[name]
    files[name] = files[name].replace(old, new, 1)

  return change


ANNOTATIONS = 'val/val_annotations.txt'
half = tiny_imagenet_zip.image(2)[:-300]


@pytest.mark.parametrize(
  'change, message',
  [
    (lose('wnids'), r'wnids\.txt'),
    (lose(ANNOTATIONS), r'val/val_annotations\.txt'),
    (lose(f'train/{WNIDS[1]}/'), rf'train/{WNIDS[1]}/images/{WNIDS[1]}_0'),
    (lose('val/images/val_3'), r'val/images/val_3\.JPEG'),
    (edit('wnids.txt', b'n02124075', b'n0212407'), "class 'n0212407'"),
    (edit('wnids.txt', b'n02124075\n', b''), '2 classes in 2 lines'),
    (edit('wnids.txt', b'n02124075', b'n01443537'), '2 classes in 3 lines'),
    (
      edit(ANNOTATIONS, b'\tn01443537', b'\tn99999999'),
      'line 3 .*n99999999',
    ),
    (
      edit(ANNOTATIONS, b'\tn01443537', b'\tn02124075'),
      'class 0 has 1 ',
    ),
    (edit(ANNOTATIONS, b'val_1', b'val_0'), 'val_annotations'),
    (edit(ANNOTATIONS, b'val_1', b'../x'), r'line 2\)'),
    (edit(ANNOTATIONS, b'val_1.JPEG\t', b'\t'), r'line 2\)'),
    (
      put(TRAIN, tiny_imagenet_zip.image(7, 64, 65)),
      rf'{TRAIN} .*64x65',
    ),
    (put(TRAIN, half), TRAIN),
    (put(TRAIN, b'\x89PNG'), TRAIN),
    (put(TRAIN, bytes(70_000)), f'{TRAIN} .*70000'),
  ],
)
@pytest.mark.parametrize('form', ['zip', 'folder'])
def test_what_is_not_the_publishers_is_refused(tmp_path, form, change, message):
  files = tiny_imagenet_zip.files()
  change(files)
  source = write(tmp_path, form, files)
  with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
    tiny_imagenet.read_source(SPEC, source)
  assert str(tmp_path) in str(error.value), 'the file is not named'


def test_what_is_refused_leaves_nothing(data_config, tiny, tmp_path):
  files = tiny_imagenet_zip.files() | {TRAIN: half}
  source = write(tmp_path, 'zip', files)
  root = str(tmp_path / 'data')
  with pytest.raises(ValueError, match=TRAIN):
    prepare.find(
      'tiny_imagenet', data_dir=root, source=str(source), download=False
    )
  assert not list(tmp_path.glob('data/**/*'))


def test_pixels_are_pillows(tmp_path):
  # Every way of a JPEG that the archive may have: grey, and all samplings.
  files = tiny_imagenet_zip.files()
  for i, sampling in enumerate(('4:4:4', '4:2:2', '4:2:0')):
    name = f'train/{WNIDS[0]}/images/{WNIDS[0]}_{i}.JPEG'
    cut = photos.cut(30 + i, 64, 64)
    files[name] = photos.encode(cut, quality=75, subsampling=sampling)
  source = tiny_imagenet_zip.write_folder(tmp_path, files)
  splits, _ = tiny_imagenet.read_source(SPEC, source)
  for i in range(3):
    name = f'train/{WNIDS[0]}/images/{WNIDS[0]}_{i}.JPEG'
    decoded = photos.decode(files[name])
    np.testing.assert_array_equal(splits['train']['image'][3 + i], decoded)
