import dataclasses
import hashlib
import os
import tarfile

import numpy as np
import pytest

from jaxmix.classification.datasets import splits
from jaxmix.classification.datasets.archives import cifar
from jaxmix.files import download
from tests.jaxmix.classification import tiny_cifar
from tests.jaxmix.classification.compare import assert_same


def test_layouts_agree_with_info(data_config):
  for name, layout in cifar.LAYOUTS.items():
    info = splits.dataset_spec(data_config(name=name))
    assert info.num_classes == layout.labels[-1]
    assert info.image_shape == cifar.SHAPE
    assert info.train_examples == layout.examples('train')
    assert info.test_examples == layout.examples('test')
  assert cifar.LAYOUTS['cifar10'].sizes() == {
    **{f'data_batch_{i}.bin': 30_730_000 for i in range(1, 6)},
    'test_batch.bin': 30_730_000,
  }
  assert cifar.LAYOUTS['cifar100'].sizes() == {
    'train.bin': 153_700_000,
    'test.bin': 30_740_000,
  }


def test_several_files_a_split(tmp_path):
  layout = dataclasses.replace(
    cifar.LAYOUTS['cifar10'], per_class={'train': 5, 'test': 1}
  )
  rows = np.random.default_rng(0).integers(0, 256, (60, 3073), np.uint8)
  rows[:, 0] = np.arange(60) % 10
  for i, name in enumerate(layout.sizes()):
    rows[10 * i : 10 * i + 10].tofile(tmp_path / name)
  splits, _ = cifar.read_source(layout, tmp_path)
  np.testing.assert_array_equal(splits['train']['label'], rows[:50, 0])
  np.testing.assert_array_equal(
    splits['test']['image'],
    rows[50:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
  )


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
def test_what_is_not_the_publishers_is_refused(tmp_path, form, spoil, message):
  rows = tiny_cifar.rows()
  spoil(rows)
  if form == 'folder':
    source = tiny_cifar.write_folder(tmp_path, rows)
  else:
    source = tiny_cifar.write_archive(
      tmp_path / 'a.tar.gz', tiny_cifar.members(rows)
    )
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    cifar.read_source(tiny_cifar.LAYOUT, source)


def test_archives_cannot_lead_astray(tmp_path):
  def read(path):
    return cifar.read_source(tiny_cifar.LAYOUT, path)

  members = tiny_cifar.members(tiny_cifar.rows())
  where = tmp_path / 'archives'
  where.mkdir()
  path = where / 'a.tar.gz'
  tiny_cifar.write_archive(path, [('../' + name, c) for name, c in members])
  with pytest.raises(ValueError, match=r'a\.tar\.gz has no cifar-100-binary/'):
    read(path)
  for kind in tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE:
    tiny_cifar.write_archive(path, [(name, b'') for name, _ in members], kind)
    with pytest.raises(ValueError, match=r'train\.bin: expected one plain'):
      read(path)
  tiny_cifar.write_archive(path, members[:1] + members)
  with pytest.raises(ValueError, match=r'train\.bin: expected one plain'):
    read(path)
  tiny_cifar.write_archive(path, [(members[0][0], bytes(10_000_000))])
  with pytest.raises(ValueError, match='10000000 bytes, expected 36888'):
    read(path)
  # What else is in there is passed over.
  extra = [('/etc/x', b'x'), ('cifar-100-binary/../../y', b'y')]
  splits, _ = read(tiny_cifar.write_archive(path, extra + members))
  assert splits.keys() == tiny_cifar.LAYOUT.files.keys()
  assert os.listdir(where) == ['a.tar.gz']
  assert os.listdir(tmp_path) == ['archives']


def test_broken_archives(tmp_path):
  path = tiny_cifar.write_archive(
    tmp_path / 'a.tar.gz', tiny_cifar.members(tiny_cifar.rows())
  )
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
      cifar.read_source(tiny_cifar.LAYOUT, path)


def test_download(published, tmp_path, capfd):
  folder = tmp_path / 'downloads'
  path = download.fetch(published, folder)
  assert 'cifar-100-binary.tar.gz' in capfd.readouterr().err, 'no progress'
  splits, _ = cifar.read_source(published, path)
  assert_same(splits['train'], tiny_cifar.arrays(tiny_cifar.rows()['train']))
  assert os.listdir(folder) == ['cifar-100-binary.tar.gz']
  # Kept, and looked at again before it is used again.
  (tmp_path / 'web' / path.name).unlink()
  assert download.fetch(published, folder) == path
  path.write_bytes(b'other')
  with pytest.raises(ValueError, match='md5'):
    download.fetch(published, folder)


@pytest.mark.parametrize(
  'fault, error, message',
  [
    ({'checksum': f'md5:{"0" * 32}'}, ValueError, f'expected {"0" * 32}'),
    ({'url': 'file:///no/a.tar.gz'}, ConnectionError, 'config.data.source'),
    ({'url': 'http://127.0.0.1:9/a.tar.gz'}, ConnectionError, '127.0.0.1'),
  ],
)
def test_failed_download_leaves_nothing(
  published, tmp_path, fault, error, message
):
  with pytest.raises(error, match=message):
    download.fetch(dataclasses.replace(published, **fault), tmp_path / 'x')
  assert os.listdir(tmp_path / 'x') == []


def test_sums_are_those_of_the_files_however_they_are_packed(tiny, tmp_path):
  rows = tiny_cifar.rows()
  expected = {
    f'{split}.bin': hashlib.sha256(array.tobytes()).hexdigest()
    for split, array in rows.items()
  }
  folder = tiny_cifar.write_folder(tmp_path / 'x', rows)
  path = tmp_path / 'a.tar.gz'
  tiny_cifar.write_archive(path, tiny_cifar.members(rows))
  for source in folder, folder.parent, path:
    assert cifar.read_source(tiny_cifar.LAYOUT, source)[1] == expected
    assert cifar.source_sha256(tiny_cifar.LAYOUT, source) == expected
  # A file that changes under a name that was already checked.
  (folder / 'test.bin').write_bytes(tiny_cifar.rows(1)['test'].tobytes())
  changed = cifar.source_sha256(tiny_cifar.LAYOUT, folder)
  assert changed['test.bin'] != expected['test.bin'], 'the old sum was kept'


def test_cifar100_archive_is_the_folder(cifar100_archive, tmp_path):
  path = tmp_path / 'cifar-100-binary.tar.gz'
  with tarfile.open(path, 'w:gz', compresslevel=0) as archive:
    archive.add(cifar100_archive, 'cifar-100-binary')
  layout = cifar.LAYOUTS['cifar100']
  sha256 = cifar.source_sha256(layout, path)
  assert sha256 == cifar.source_sha256(layout, cifar100_archive.parent)
