import dataclasses
import hashlib
import json
import os
import pathlib

import pytest
import tensorflow_datasets as tfds

from jaxmix.classification.datasets import array_records, prepare, splits
from jaxmix.classification.datasets.archives import cifar
from jaxmix.files import record_sets, record_writer
from tests.jaxmix.classification import tiny_cifar
from tests.jaxmix.classification.compare import assert_same, check_source


@pytest.mark.parametrize('form', ['folder', 'parent', 'archive', 'variable'])
def test_prepared_once_from_any_form(
  data_config, tiny, tmp_path, monkeypatch, form
):
  rows = tiny_cifar.rows()
  block = data_config(name='cifar100', dir=str(tmp_path / 'data'))
  if form == 'archive':
    block.source = str(
      tiny_cifar.write_archive(
        tmp_path / 'any_name.tar.gz', tiny_cifar.members(rows)
      )
    )
  else:
    folder = tiny_cifar.write_folder(tmp_path / 'x', rows)
    if form == 'variable':
      monkeypatch.setenv('JAXMIX_CIFAR100', str(folder))
    else:
      block.source = str(folder if form == 'folder' else folder.parent)
  for split in 'train', 'test':
    assert_same(splits.load(block, split), tiny_cifar.arrays(rows[split]))
  monkeypatch.setattr(cifar, 'read_source', None)  # is not called again
  monkeypatch.delenv('JAXMIX_CIFAR100', raising=False)
  block.source = ''
  assert_same(splits.load(block, 'train'), tiny_cifar.arrays(rows['train']))
  assert os.listdir(tmp_path / 'data') == ['jaxmix_cifar']


def test_default_folder(data_config, tiny, tmp_path):
  tiny_cifar.write_folder(tmp_path, tiny_cifar.rows())
  block = data_config(name='cifar100', source=str(tmp_path))
  folder = splits._find(block)
  assert folder == tmp_path / 'default' / 'jaxmix_cifar' / 'cifar100' / '1.0.0'


def test_the_source_must_be_that_of_the_prepared_set(
  data_config, tiny, tmp_path
):
  one = tiny_cifar.write_folder(tmp_path / 'one', tiny_cifar.rows(1))
  other = tiny_cifar.write_folder(tmp_path / 'other', tiny_cifar.rows(2))
  block = data_config(name='cifar100', source=str(one))
  splits._find(block)
  block.source = str(
    tiny_cifar.write_archive(
      tmp_path / 'one.tar.gz', tiny_cifar.members(tiny_cifar.rows(1))
    )
  )
  splits._find(block)
  block.source = str(other)
  with pytest.raises(ValueError, match=r'config\.data\.source=.*other'):
    splits._find(block)
  block.source = str(tmp_path / 'nowhere')
  with pytest.raises(
    FileNotFoundError, match=r'config\.data\.source=.*nowhere'
  ):
    splits._find(block)
  # Changed files of the same names are read again.
  (other / 'test.bin').write_bytes((one / 'test.bin').read_bytes())
  (other / 'train.bin').write_bytes((one / 'train.bin').read_bytes())
  block.source = str(other)
  splits._find(block)


class Stop(BaseException):
  """Like KeyboardInterrupt: not an Exception."""


def test_interrupted_preparation_leaves_nothing(
  data_config, tiny, tmp_path, monkeypatch
):
  block = data_config(
    name='cifar100',
    source=str(tiny_cifar.write_folder(tmp_path / 'x', tiny_cifar.rows())),
    dir=str(tmp_path / 'data'),
  )

  def stop(*_):
    raise Stop

  def stop_later(spec, arrays):
    yield {'image': arrays['image'][0], 'label': int(arrays['label'][0])}
    stop()

  for name, function in ('_examples', stop_later), ('file_fingerprint', stop):
    with monkeypatch.context() as patch:
      patch.setattr(prepare, name, function)
      with pytest.raises(Stop):
        splits._find(block)
    assert os.listdir(tmp_path / 'data') == []
  assert_same(
    splits.load(block, 'train'), tiny_cifar.arrays(tiny_cifar.rows()['train'])
  )


@pytest.mark.parametrize('other_seed', [0, 1])
def test_two_preparations_at_once(
  data_config, tiny, tmp_path, monkeypatch, other_seed
):
  mine = tiny_cifar.write_folder(tmp_path / 'mine', tiny_cifar.rows(0))
  other = tiny_cifar.write_folder(
    tmp_path / 'other', tiny_cifar.rows(other_seed)
  )
  block = data_config(
    name='cifar100', source=str(mine), dir=str(tmp_path / 'data')
  )
  write = array_records.arrays_fingerprint

  def other_is_faster(arrays):
    monkeypatch.setattr(array_records, 'arrays_fingerprint', write)
    block.source = str(other)
    splits._find(block)
    return write(arrays)

  monkeypatch.setattr(array_records, 'arrays_fingerprint', other_is_faster)
  if other_seed == 0:
    assert_same(
      splits.load(block, 'train'),
      tiny_cifar.arrays(tiny_cifar.rows(0)['train']),
    )
  else:
    with pytest.raises(ValueError, match='mine'):
      splits._find(block)
  assert os.listdir(tmp_path / 'data') == ['jaxmix_cifar']


def test_a_refused_source_leaves_nothing(data_config, tiny, tmp_path):
  rows = tiny_cifar.rows()
  rows['test'][3, 1] = 4
  source = tiny_cifar.write_folder(tmp_path / 'x', rows)
  block = data_config(
    name='cifar100', source=str(source), dir=str(tmp_path / 'data')
  )
  with pytest.raises(ValueError, match=r'test\.bin: record 3'):
    splits._find(block)
  assert not list(tmp_path.glob('data/**/*'))


def test_download_once(data_config, published, tmp_path):
  block = data_config(name='cifar100', download=True)
  expected = tiny_cifar.arrays(tiny_cifar.rows()['train'])
  assert_same(splits.load(block, 'train'), expected)
  downloads = tmp_path / 'default' / 'downloads'
  assert os.listdir(downloads) == ['cifar-100-binary.tar.gz']
  # The archive is not read again.
  (downloads / 'cifar-100-binary.tar.gz').write_bytes(b'other')
  assert_same(splits.load(block, 'train'), expected)


def test_a_missing_data_set_says_what_to_do(data_config, tmp_path):
  for name in 'cifar10', 'cifar100':
    with pytest.raises(FileNotFoundError) as error:
      splits.load(data_config(name=name, dir=str(tmp_path)), 'train')
    for word in (
      'config.data.source',
      f'JAXMIX_{name.upper()}',
      'config.data.download=True',
      str(tmp_path),
      'https://www.cs.toronto.edu/~kriz/cifar-10',
    ):
      assert word in str(error.value)


def test_a_missing_source_is_refused_before_it_is_announced(
  data_config, tmp_path, capsys
):
  block = data_config(name='cifar100', dir=str(tmp_path), source='/nowhere.gz')
  with pytest.raises(
    FileNotFoundError, match="config.data.source='/nowhere.gz'"
  ):
    splits.load(block, 'train')
  assert not capsys.readouterr().err


@pytest.mark.parametrize(
  'fault, error', [('checksum', ValueError), ('url', ConnectionError)]
)
def test_a_failed_download_is_named(
  data_config, published, tmp_path, monkeypatch, fault, error
):
  value = {'checksum': f'md5:{"0" * 32}', 'url': 'file:///no/a.tar.gz'}[fault]
  spec = dataclasses.replace(published, **{fault: value})
  monkeypatch.setitem(prepare.DATASETS, 'cifar100', spec)
  with pytest.raises(error, match=value.removeprefix('md5:')):
    splits.load(data_config(name='cifar100', download=True), 'train')
  assert os.listdir(tmp_path / 'default' / 'downloads') == []


def test_a_split_of_several_files(data_config, tiny, tmp_path, monkeypatch):
  monkeypatch.setattr(record_writer, 'SHARD_BYTES', 3 * 3072)
  source = tiny_cifar.write_folder(tmp_path / 'x', tiny_cifar.rows())
  block = data_config(name='cifar100', source=str(source))
  builder = record_sets.open_set(splits._find(block))
  for split, lengths in ('train', (3, 3, 3, 3)), ('test', (3, 3, 2)):
    assert record_sets.check_shards(builder, split).lengths == lengths
    expected = tiny_cifar.arrays(tiny_cifar.rows()[split])
    assert_same(splits.load(block, split), expected)
    check_source(splits.source(block, split), expected, [0, 2, 3, 7, -1])


class TfdsOwn(tfds.core.GeneratorBasedBuilder, skip_registration=True):
  """Stands for tfds' own cifar100: PNG, two labels."""

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
    return {
      split: self._generate_examples(split) for split in tiny_cifar.SPEC.files
    }

  def _generate_examples(self, split):
    from PIL import Image

    arrays = tiny_cifar.arrays(tiny_cifar.rows(3)[split])
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


def test_a_set_of_tfds_is_read(data_config, tiny, tmp_path):
  root = tmp_path / 'default'
  TfdsOwn(data_dir=root, file_format='array_record').download_and_prepare()
  block = data_config(name='cifar100')
  arrays = splits.load(block, 'test')
  source = array_records.open_split(splits._find(block), 'cifar100', 'test')
  check_source(source, arrays, [0, 3, 5, -1])
  expected = tiny_cifar.arrays(tiny_cifar.rows(3)['test'])
  images = {image.tobytes(): i for i, image in enumerate(expected['image'])}
  order = [images[image.tobytes()] for image in arrays['image']]
  assert sorted(order) == list(range(8))
  assert_same(arrays, {k: v[order] for k, v in expected.items()})
  # A source is prepared, because tfds' set may be of other files.
  block.source = str(
    tiny_cifar.write_folder(tmp_path / 'x', tiny_cifar.rows(4))
  )
  assert_same(
    splits.load(block, 'test'), tiny_cifar.arrays(tiny_cifar.rows(4)['test'])
  )


def test_tfrecords_of_tfds_are_not_read(data_config, tiny, tmp_path):
  root = tmp_path / 'default'
  TfdsOwn(data_dir=root, file_format='array_record').download_and_prepare()
  path = root / 'cifar100' / '3.0.2' / 'dataset_info.json'
  path.write_text(path.read_text().replace('array_record', 'tfrecord'))
  with pytest.raises(FileNotFoundError, match='cifar100/3.0.2'):
    splits._find(data_config(name='cifar100'))


@pytest.mark.slow
def test_cifar100_needs_no_source_once_prepared(
  data_config, cifar100_archive, cifar100_dir, monkeypatch
):
  monkeypatch.setenv('JAXMIX_CIFAR100', str(cifar100_archive / 'gone'))
  monkeypatch.setattr(cifar, '_read_files', None)
  block = data_config(name='cifar100', dir=cifar100_dir, download=True)
  assert splits.source(block, 'test')[0]['image'].shape == (32, 32, 3)
  record = next(pathlib.Path(cifar100_dir).glob('*/*/*/jaxmix.json'))
  sha256 = json.loads(record.read_text())['source']
  for name in 'train.bin', 'test.bin':
    content = (cifar100_archive / name).read_bytes()
    assert sha256[name] == hashlib.sha256(content).hexdigest()
