import dataclasses
import hashlib
import io
import json
import os
import pathlib
import pickle
import subprocess
import sys
import tarfile
from typing import Any

import ml_collections
import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxmix.classification import data, datasets

TINY = dataclasses.replace(
  datasets.LAYOUTS['cifar100'], labels=(2, 4), per_class={'train': 3, 'test': 2}
)


def config(**fields):
  block = ml_collections.ConfigDict(
    {
      'name': 'digits',
      'source': '',
      'dir': '',
      'download': False,
      'feed': 'resident',
      'train_examples': 0,
      'test_examples': 0,
    }
  )
  block.update(fields)
  return block


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
  """No test may find, or write to, the data sets of whoever runs it."""
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path / 'default'))
  monkeypatch.delenv('JAXMIX_CIFAR10', raising=False)
  monkeypatch.delenv('JAXMIX_CIFAR100', raising=False)


def assert_same(left, right):
  assert left.keys() == right.keys()
  for key in left:
    # Not numpy.testing: ten seconds for CIFAR.
    assert np.array_equal(left[key], right[key])
    assert left[key].dtype == right[key].dtype


# --- Digits ---


@pytest.mark.parametrize('split, total', [('train', 1437), ('test', 360)])
def test_digits_split(split, total):
  arrays = data.load(config(), split)
  assert arrays['image'].shape == (total, 8, 8, 1)
  assert arrays['image'].dtype == np.uint8
  assert (arrays['image'].min(), arrays['image'].max()) == (0, 255)
  assert arrays['label'].shape == (total,)
  assert arrays['label'].dtype == np.int32
  counts = np.bincount(arrays['label'])
  low, high = {'train': (139, 147), 'test': (35, 37)}[split]
  assert (counts.min(), counts.max()) == (low, high)


def test_digits_are_the_real_ones_and_the_splits_do_not_overlap():
  from sklearn.datasets import load_digits

  digits: Any = load_digits()
  parts = [data.load(config(), split)['image'] for split in ('train', 'test')]
  seen = [image.tobytes() for part in parts for image in part]
  scaled = np.round(digits.images * 255 / 16).astype(np.uint8)
  assert len(set(seen)) == len({image.tobytes() for image in scaled}) == 1797
  assert set(seen) == {image.tobytes() for image in scaled}


def test_digits_info_matches_the_data():
  info = data.info(config())
  for split, expected in [('train', 1437), ('test', 360)]:
    assert getattr(info, f'{split}_examples') == expected
  image = data.load(config(), 'train')['image'] / 255
  assert image.shape[1:] == info.image_shape
  np.testing.assert_allclose(image.mean((0, 1, 2)), info.mean, atol=5e-5)
  np.testing.assert_allclose(image.std((0, 1, 2)), info.std, atol=5e-5)


def test_subset_is_the_first_of_each_class_in_file_order():
  full = data.load(config(), 'train')
  subset = data.load(config(train_examples=103), 'train')
  expected = sorted(
    i
    for c in range(10)
    for i in np.flatnonzero(full['label'] == c)[: 11 if c < 3 else 10]
  )
  assert_same(subset, {k: v[expected] for k, v in full.items()})
  assert data.info(config(train_examples=103)).train_examples == 103
  assert_same(
    data.load(config(train_examples=103), 'test'), data.load(config(), 'test')
  )
  assert len(data.load(config(test_examples=50), 'test')['label']) == 50
  assert_same(data.load(config(train_examples=1437), 'train'), full)


@pytest.mark.parametrize('examples', [-1, 1438, 1436])
def test_impossible_subset(examples):
  with pytest.raises(ValueError, match=r'config\.data\.train_examples'):
    data.load(config(train_examples=examples), 'train')


def test_digits_source_is_load():
  block = config(train_examples=100)
  arrays, source = data.load(block, 'train'), data.source(block, 'train')
  check_source(source, arrays, [0, 1, 57, 99, -1])


def check_source(source, arrays, indices):
  assert len(source) == len(arrays['label'])
  examples = [source[i] for i in indices]
  for example, bulk in zip(examples, source.__getitems__(indices), strict=True):
    assert_same(example, bulk)
  stacked = {k: np.stack([e[k] for e in examples]) for k in examples[0]}
  assert_same(stacked, {k: v[indices] for k, v in arrays.items()})
  assert source.__getitems__([]) == []
  with pytest.raises(IndexError):
    source[len(source)]
  assert_same(pickle.loads(pickle.dumps(source))[1], source[1])


@pytest.mark.parametrize(
  'fields, split, message',
  [
    ({'name': 'mnist'}, 'train', r'config\.data\.name'),
    ({}, 'validation', "'train' or 'test'"),
    ({'source': 'somewhere'}, 'train', r'config\.data\.source'),
  ],
)
def test_bad_config(fields, split, message):
  for function in data.load, data.source:
    with pytest.raises(ValueError, match=message):
      function(config(**fields), split)


def test_import_is_light():
  code = (
    'import sys, jaxmix.classification.data as d;'
    'assert not {"tensorflow", "tensorflow_datasets", "sklearn"}'
    ' & sys.modules.keys();'
    'import jaxmix.classification.datasets;'
    'assert "tensorflow" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


# --- The publisher's files, with a layout of twenty small records ---


@pytest.fixture
def tiny(monkeypatch):
  monkeypatch.setitem(datasets.LAYOUTS, 'cifar100', TINY)


def tiny_rows(seed=0):
  rng = np.random.default_rng(seed)
  rows = {}
  for split in 'train', 'test':
    rows[split] = rng.integers(
      0, 256, (TINY.examples(split), 2 + 3072), np.uint8
    )
    rows[split][:, 0] = 1
    rows[split][:, 1] = np.arange(TINY.examples(split)) % 4
  return rows


def write_folder(parent, rows):
  folder = parent / 'cifar-100-binary'
  folder.mkdir(parents=True)
  for split, array in rows.items():
    array.tofile(folder / f'{split}.bin')
  return folder


def write_archive(path, contents, kind=tarfile.REGTYPE):
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in contents:
      member = tarfile.TarInfo(name)
      member.size, member.type, member.linkname = len(content), kind, '/etc'
      archive.addfile(member, io.BytesIO(content))
  return path


def tiny_members(rows):
  return [
    (f'cifar-100-binary/{split}.bin', array.tobytes())
    for split, array in rows.items()
  ]


def direct(rows):
  planes = rows[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
  return {'image': planes, 'label': rows[:, 1].astype(np.int32)}


def test_layouts_agree_with_info():
  for name, layout in datasets.LAYOUTS.items():
    info = data.info(config(name=name))
    assert info.num_classes == layout.labels[-1]
    assert info.image_shape == datasets.SHAPE
    assert info.train_examples == layout.examples('train')
    assert info.test_examples == layout.examples('test')
  assert datasets.LAYOUTS['cifar10'].sizes() == {
    **{f'data_batch_{i}.bin': 30_730_000 for i in range(1, 6)},
    'test_batch.bin': 30_730_000,
  }
  assert datasets.LAYOUTS['cifar100'].sizes() == {
    'train.bin': 153_700_000,
    'test.bin': 30_740_000,
  }


def test_several_files_a_split(tmp_path):
  layout = dataclasses.replace(
    datasets.LAYOUTS['cifar10'], per_class={'train': 5, 'test': 1}
  )
  rows = np.random.default_rng(0).integers(0, 256, (60, 3073), np.uint8)
  rows[:, 0] = np.arange(60) % 10
  for i, name in enumerate(layout.sizes()):
    rows[10 * i : 10 * i + 10].tofile(tmp_path / name)
  splits, _ = datasets.read_source(layout, tmp_path)
  np.testing.assert_array_equal(splits['train']['label'], rows[:50, 0])
  np.testing.assert_array_equal(
    splits['test']['image'],
    rows[50:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
  )


@pytest.mark.parametrize('form', ['folder', 'parent', 'archive', 'variable'])
def test_prepared_once_from_any_form(tiny, tmp_path, monkeypatch, form):
  rows = tiny_rows()
  block = config(name='cifar100', dir=str(tmp_path / 'data'))
  if form == 'archive':
    block.source = str(
      write_archive(tmp_path / 'any_name.tar.gz', tiny_members(rows))
    )
  else:
    folder = write_folder(tmp_path / 'x', rows)
    if form == 'variable':
      monkeypatch.setenv('JAXMIX_CIFAR100', str(folder))
    else:
      block.source = str(folder if form == 'folder' else folder.parent)
  for split in 'train', 'test':
    assert_same(datasets_load(block, split), direct(rows[split]))
  monkeypatch.setattr(datasets, 'read_source', None)  # not needed any more
  monkeypatch.delenv('JAXMIX_CIFAR100', raising=False)
  block.source = ''
  assert_same(datasets_load(block, 'train'), direct(rows['train']))
  assert os.listdir(tmp_path / 'data') == ['jaxmix_cifar']


def datasets_load(block, split):
  """`data.load` less `info`, which knows the sizes of the real data only."""
  folder = data._find(block)
  return datasets.load_split(folder, block.name, split)


def test_default_folder(tiny, tmp_path):
  write_folder(tmp_path, tiny_rows())
  block = config(name='cifar100', source=str(tmp_path))
  folder = data._find(block)
  assert folder == tmp_path / 'default' / 'jaxmix_cifar' / 'cifar100' / '1.0.0'


def test_what_the_user_names_is_what_is_read(tiny, tmp_path):
  one = write_folder(tmp_path / 'one', tiny_rows(1))
  other = write_folder(tmp_path / 'other', tiny_rows(2))
  block = config(name='cifar100', source=str(one))
  data._find(block)
  block.source = str(
    write_archive(tmp_path / 'one.tar.gz', tiny_members(tiny_rows(1)))
  )
  data._find(block)
  block.source = str(other)
  with pytest.raises(ValueError, match=r'config\.data\.source=.*other'):
    data._find(block)
  block.source = str(tmp_path / 'nowhere')
  with pytest.raises(FileNotFoundError, match='nowhere'):
    data._find(block)
  # A file that changes under a name that was already checked.
  (other / 'test.bin').write_bytes((one / 'test.bin').read_bytes())
  (other / 'train.bin').write_bytes((one / 'train.bin').read_bytes())
  block.source = str(other)
  data._find(block)


def spoil_size(rows):
  rows['train'] = rows['train'][:-1]


def spoil_label(rows):
  rows['train'][5, 1] = 4


def spoil_coarse_label(rows):
  rows['test'][3, 0] = 2


def spoil_counts(rows):
  rows['train'][0, 1] = 1


def spoil_presence(rows):
  del rows['test']


@pytest.mark.parametrize(
  'spoil, message',
  [
    (spoil_size, r'train\.bin has 33814 bytes, expected 36888'),
    (spoil_label, r'train\.bin: record 5 has label 4 in byte 1, expected 0..3'),
    (spoil_coarse_label, r'test\.bin: record 3 has label 2 in byte 0'),
    (spoil_counts, r'train\.bin: class 0 has 2 examples, expected 3'),
    (spoil_presence, r'test\.bin'),
  ],
)
@pytest.mark.parametrize('form', ['folder', 'archive'])
def test_what_is_not_the_publishers_is_refused(
  tiny, tmp_path, form, spoil, message
):
  rows = tiny_rows()
  spoil(rows)
  if form == 'folder':
    source = write_folder(tmp_path, rows)
  else:
    source = write_archive(tmp_path / 'a.tar.gz', tiny_members(rows))
  block = config(
    name='cifar100', source=str(source), dir=str(tmp_path / 'data')
  )
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    data._find(block)
  assert not list(tmp_path.glob('data/**/*.*'))


def test_archives_cannot_lead_astray(tiny, tmp_path):
  members = tiny_members(tiny_rows())
  where = tmp_path / 'archives'
  where.mkdir()
  read = lambda path: datasets.read_source(TINY, path)  # noqa: E731

  path = where / 'a.tar.gz'
  write_archive(path, [('../' + name, c) for name, c in members])
  with pytest.raises(ValueError, match=r'a\.tar\.gz has no cifar-100-binary/'):
    read(path)
  for kind in tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE:
    write_archive(path, [(name, b'') for name, _ in members], kind)
    with pytest.raises(ValueError, match=r'train\.bin: expected one plain'):
      read(path)
  write_archive(path, members[:1] + members)
  with pytest.raises(ValueError, match=r'train\.bin: expected one plain'):
    read(path)
  write_archive(path, [(members[0][0], bytes(10_000_000))])
  with pytest.raises(ValueError, match='10000000 bytes, expected 36888'):
    read(path)
  # What else is in there is passed over.
  extra = [('/etc/x', b'x'), ('cifar-100-binary/../../y', b'y')]
  splits, _ = read(write_archive(path, extra + members))
  assert splits.keys() == TINY.files.keys()
  assert os.listdir(where) == ['a.tar.gz']
  assert os.listdir(tmp_path) == ['archives']


def test_broken_archives(tiny, tmp_path):
  path = write_archive(tmp_path / 'a.tar.gz', tiny_members(tiny_rows()))
  whole = path.read_bytes()
  spoiled = bytearray(whole)
  spoiled[len(whole) // 2] ^= 1
  no_sum = whole[:-4]
  for content in (
    b'',
    b'not an archive',
    whole[: len(whole) // 3],
    no_sum,
    bytes(spoiled),
  ):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'a\.tar\.gz'):
      datasets.read_source(TINY, path)


# --- Preparing ---


class Stop(BaseException):
  """Like KeyboardInterrupt: not an Exception."""


def test_interrupted_preparation_leaves_nothing(tiny, tmp_path, monkeypatch):
  block = config(
    name='cifar100',
    source=str(write_folder(tmp_path / 'x', tiny_rows())),
    dir=str(tmp_path / 'data'),
  )

  def stops(self, image, label):
    yield 0, {'image': image[0], 'label': int(label[0])}
    raise Stop

  for name, function in [
    ('JaxmixCifar._generate_examples', stops),
    ('_file_digest', lambda *_: stops(0, [0], [0]).throw(Stop)),
  ]:
    with monkeypatch.context() as patch:
      patch.setattr(f'jaxmix.classification.datasets.{name}', function)
      with pytest.raises(Stop):
        data._find(block)
    assert os.listdir(tmp_path / 'data') == []
  assert_same(datasets_load(block, 'train'), direct(tiny_rows()['train']))


@pytest.mark.parametrize('other_seed', [0, 1])
def test_two_preparations_at_once(tiny, tmp_path, monkeypatch, other_seed):
  mine = write_folder(tmp_path / 'mine', tiny_rows(0))
  other = write_folder(tmp_path / 'other', tiny_rows(other_seed))
  block = config(name='cifar100', source=str(mine), dir=str(tmp_path / 'data'))
  write = datasets._arrays_sha256

  def other_is_faster(arrays):
    monkeypatch.setattr(datasets, '_arrays_sha256', write)
    block.source = str(other)
    data._find(block)
    return write(arrays)

  monkeypatch.setattr(datasets, '_arrays_sha256', other_is_faster)
  if other_seed == 0:
    assert_same(datasets_load(block, 'train'), direct(tiny_rows(0)['train']))
  else:
    with pytest.raises(ValueError, match='mine'):
      data._find(block)
  assert os.listdir(tmp_path / 'data') == ['jaxmix_cifar']


@pytest.fixture
def tiny_prepared(tiny, tmp_path):
  write_folder(tmp_path / 'x', tiny_rows())
  block = config(name='cifar100', source=str(tmp_path / 'x'))
  folder = data._find(block)
  shard = next(folder.glob('*train.array_record*'))
  return folder, shard


def open_and_read(folder):
  return datasets.open_split(folder, 'cifar100', 'train')[0]


def load(folder):
  return datasets.load_split(folder, 'cifar100', 'train')


@pytest.mark.parametrize('read', [open_and_read, load])
def test_missing_or_cut_shard(tiny_prepared, read):
  folder, shard = tiny_prepared
  os.truncate(shard, shard.stat().st_size - 100)
  with pytest.raises(ValueError, match=shard.name):
    read(folder)
  shard.unlink()
  with pytest.raises(ValueError, match=f'{shard.name} is missing'):
    read(folder)


@pytest.mark.parametrize('read', [open_and_read, load])
def test_spoiled_shard(tiny_prepared, read):
  folder, shard = tiny_prepared
  content = bytearray(shard.read_bytes())
  spot = content.find(tiny_rows()['train'][0, 2:].reshape(3, -1).T.tobytes())
  assert spot > 0, 'the pixels are stored as they are'
  content[spot + 7] ^= 1
  shard.write_bytes(content)
  with pytest.raises(ValueError, match=shard.name):
    read(folder)


def test_record_that_does_not_fit(tiny_prepared):
  folder, _ = tiny_prepared
  path = folder / 'jaxmix.json'
  record = json.loads(path.read_text())
  record['splits']['train']['sha256'] = hashlib.sha256(b'').hexdigest()
  path.write_text(json.dumps(record))
  with pytest.raises(ValueError, match=r'train is not what jaxmix\.json'):
    load(folder)
  path.write_text(path.read_text()[:-9])
  with pytest.raises(ValueError, match=r'jaxmix\.json is missing or broken'):
    open_and_read(folder)
  path.unlink()
  with pytest.raises(ValueError, match=r'jaxmix\.json is missing or broken'):
    open_and_read(folder)


def test_other_number_of_examples(tiny_prepared, monkeypatch):
  folder, _ = tiny_prepared
  layout = dataclasses.replace(TINY, per_class={'train': 4, 'test': 2})
  monkeypatch.setitem(datasets.LAYOUTS, 'cifar100', layout)
  with pytest.raises(ValueError, match='12 train examples, expected 16'):
    load(folder)


# --- Where it is looked for ---


def test_nowhere_says_what_to_do(tmp_path):
  for name in 'cifar10', 'cifar100':
    with pytest.raises(FileNotFoundError) as error:
      data.load(config(name=name, dir=str(tmp_path)), 'train')
    for word in (
      'config.data.source',
      f'JAXMIX_{name.upper()}',
      'config.data.download=True',
      str(tmp_path),
      'https://www.cs.toronto.edu/~kriz/cifar-10',
    ):
      assert word in str(error.value)


class TfdsOwn(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Stands for what tfds' own cifar100 prepares: PNG, two labels."""

  name = 'cifar100'
  VERSION = tfds.core.Version('3.0.2')

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'id': tfds.features.Text(),
          'image': tfds.features.Image(shape=(32, 32, 3)),
          'label': tfds.features.ClassLabel(num_classes=4),
          'coarse_label': tfds.features.ClassLabel(num_classes=2),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {split: self._generate_examples(split) for split in TINY.files}

  def _generate_examples(self, split):
    from PIL import Image

    arrays = direct(tiny_rows(3)[split])
    for i, label in enumerate(arrays['label']):
      yield (
        i,
        {
          'id': f'{split}_{i}',
          'image': Image.fromarray(arrays['image'][i]),
          'label': int(label),
          'coarse_label': 1,
        },
      )


def test_what_tfds_prepared_is_read(tiny, tmp_path):
  root = tmp_path / 'default'
  TfdsOwn(data_dir=root, file_format='array_record').download_and_prepare()
  block = config(name='cifar100')
  arrays = datasets_load(block, 'test')
  source = datasets.open_split(data._find(block), 'cifar100', 'test')
  check_source(source, arrays, [0, 3, 5, -1])
  expected = direct(tiny_rows(3)['test'])
  images = {image.tobytes(): i for i, image in enumerate(expected['image'])}
  order = [images[image.tobytes()] for image in arrays['image']]
  assert sorted(order) == list(range(8))
  assert_same(arrays, {k: v[order] for k, v in expected.items()})
  # It cannot be told to be what the user names: that is prepared instead.
  block.source = str(write_folder(tmp_path / 'x', tiny_rows(4)))
  assert_same(datasets_load(block, 'test'), direct(tiny_rows(4)['test']))


def test_tfrecords_of_tfds_are_passed_over(tiny, tmp_path):
  root = tmp_path / 'default'
  TfdsOwn(data_dir=root, file_format='array_record').download_and_prepare()
  path = root / 'cifar100' / '3.0.2' / 'dataset_info.json'
  path.write_text(path.read_text().replace('array_record', 'tfrecord'))
  with pytest.raises(FileNotFoundError, match='3.0.2 is not ArrayRecord'):
    data._find(config(name='cifar100'))


@pytest.fixture
def published(tmp_path, monkeypatch):
  """The tiny archive, published at a file: address."""
  (tmp_path / 'web').mkdir()
  path = tmp_path / 'web' / 'cifar-100-binary.tar.gz'
  write_archive(path, tiny_members(tiny_rows()))
  md5 = hashlib.md5(path.read_bytes()).hexdigest()
  layout = dataclasses.replace(TINY, url=path.as_uri(), md5=md5)
  monkeypatch.setitem(datasets.LAYOUTS, 'cifar100', layout)
  return layout


def test_download(published, tmp_path, capfd):
  block = config(name='cifar100', download=True)
  assert_same(datasets_load(block, 'train'), direct(tiny_rows()['train']))
  assert 'cifar-100-binary.tar.gz' in capfd.readouterr().err
  downloads = tmp_path / 'default' / 'downloads'
  assert os.listdir(downloads) == ['cifar-100-binary.tar.gz']
  # Kept, and looked at again before it is used again.
  (downloads / 'cifar-100-binary.tar.gz').write_bytes(b'other')
  assert_same(datasets_load(block, 'train'), direct(tiny_rows()['train']))
  with pytest.raises(ValueError, match='md5'):
    datasets.fetch(published, downloads)


@pytest.mark.parametrize(
  'fault, error, message',
  [
    (
      {'md5': '0' * 32},
      ValueError,
      'expected 00000000000000000000000000000000',
    ),
    (
      {'url': 'file:///nowhere/a.tar.gz'},
      ConnectionError,
      'config.data.source',
    ),
    ({'url': 'http://127.0.0.1:9/a.tar.gz'}, ConnectionError, '127.0.0.1'),
  ],
)
def test_failed_download(
  published, tmp_path, monkeypatch, fault, error, message
):
  layout = dataclasses.replace(published, **fault)
  monkeypatch.setitem(datasets.LAYOUTS, 'cifar100', layout)
  block = config(name='cifar100', download=True)
  with pytest.raises(error, match=message):
    data._find(block)
  assert os.listdir(tmp_path / 'default' / 'downloads') == []


# --- The real CIFAR-100 ---


@pytest.fixture(scope='session')
def cifar100_dir(cifar100_archive, tmp_path_factory):
  """`config.data.dir` with the real CIFAR-100 prepared."""
  root = tmp_path_factory.mktemp('prepared')
  folder = datasets.find(
    'cifar100', data_dir=str(root), source=str(cifar100_archive), download=False
  )
  assert folder.is_relative_to(root)
  return str(root)


@pytest.fixture(scope='session')
def cifar100_arrays(cifar100_dir):
  block = config(name='cifar100', dir=cifar100_dir)
  return {split: data.load(block, split) for split in ('train', 'test')}


@pytest.mark.parametrize('split', ['train', 'test'])
def test_cifar100_equals_the_publishers_file(
  cifar100_arrays, cifar100_archive, split
):
  rows = np.fromfile(cifar100_archive / f'{split}.bin', np.uint8)
  assert_same(cifar100_arrays[split], direct(rows.reshape(-1, 3074)))
  total, each = {'train': (50_000, 500), 'test': (10_000, 100)}[split]
  assert cifar100_arrays[split]['image'].shape == (total, 32, 32, 3)
  assert (np.bincount(cifar100_arrays[split]['label']) == each).all()


def test_cifar100_info(cifar100_arrays):
  info = data.info(config(name='cifar100'))
  # Sums of integers by channel: float64 copies would take 1.2 GB.
  images = cifar100_arrays['train']['image'].reshape(-1, 3)
  values = np.arange(256) / 255
  for c in range(3):
    share = np.bincount(images[:, c], minlength=256) / len(images)
    mean = (share * values).sum()
    std = np.sqrt((share * (values - mean) ** 2).sum())
    assert abs(mean - info.mean[c]) < 5e-5
    assert abs(std - info.std[c]) < 5e-5


def test_cifar100_source_is_load(cifar100_dir, cifar100_arrays):
  block = config(name='cifar100', dir=cifar100_dir)
  source = data.source(block, 'train')
  indices = np.random.default_rng(0).permutation(50_000)[:500].tolist()
  check_source(source, cifar100_arrays['train'], [*indices, 0, 49_999, -1])


def test_cifar100_subset(cifar100_dir, cifar100_arrays):
  block = config(name='cifar100', dir=cifar100_dir, test_examples=10)
  subset = data.load(block, 'test')
  labels = cifar100_arrays['test']['label']
  keep = sorted(np.flatnonzero(labels == c)[0] for c in range(10))
  assert_same(subset, {k: v[keep] for k, v in cifar100_arrays['test'].items()})
  check_source(data.source(block, 'test'), subset, [*range(10), -1])
  block.test_examples = 250
  counts = np.bincount(data.load(block, 'test')['label'])
  np.testing.assert_array_equal(counts, [3] * 50 + [2] * 50)


def test_cifar100_archive_is_the_folder(
  cifar100_archive, cifar100_dir, tmp_path
):
  path = tmp_path / 'cifar-100-binary.tar.gz'
  with tarfile.open(path, 'w:gz', compresslevel=0) as archive:
    archive.add(cifar100_archive, 'cifar-100-binary')
  block = config(name='cifar100', source=str(path), dir=cifar100_dir)
  assert data.source(block, 'test')[0]['image'].shape == (32, 32, 3)
  layout = datasets.LAYOUTS['cifar100']
  sha256 = datasets.source_sha256(layout, path)
  assert sha256 == datasets.source_sha256(layout, cifar100_archive.parent)


def test_cifar100_needs_no_source_once_prepared(
  cifar100_archive, cifar100_dir, monkeypatch
):
  monkeypatch.setenv('JAXMIX_CIFAR100', str(cifar100_archive / 'gone'))
  monkeypatch.setattr(datasets, '_read_files', None)
  block = config(name='cifar100', dir=cifar100_dir, download=True)
  assert data.source(block, 'test')[0]['image'].shape == (32, 32, 3)
  record = next(pathlib.Path(cifar100_dir).glob('*/*/*/jaxmix.json'))
  sha256 = json.loads(record.read_text())['source']
  for name in 'train.bin', 'test.bin':
    content = (cifar100_archive / name).read_bytes()
    assert sha256[name] == hashlib.sha256(content).hexdigest()


def test_cifar100_without_tensorflow(cifar100_dir):
  code = (
    'import sys, ml_collections;'
    'from jaxmix.classification import data;'
    f'block = ml_collections.ConfigDict({dict(config())!r});'
    f'block.update(name="cifar100", dir={cifar100_dir!r});'
    'assert len(data.load(block, "test")["label"]) == 10_000;'
    'assert data.source(block, "test")[9]["image"].shape == (32, 32, 3);'
    'assert "tensorflow" not in sys.modules'
  )
  subprocess.run([sys.executable, '-c', code], check=True)
