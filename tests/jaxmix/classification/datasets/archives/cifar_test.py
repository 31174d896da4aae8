import dataclasses
import hashlib
import os
import tarfile

import numpy as np
import pytest

from jaxmix.classification.datasets.archives import cifar
from jaxmix.classification.datasets.specs import DATASETS
from tests.jaxmix.classification import tiny_cifar


def test_the_files_have_the_published_sizes():
  assert cifar.file_sizes(DATASETS['cifar10']) == {
    **{f'data_batch_{i}.bin': 30_730_000 for i in range(1, 6)},
    'test_batch.bin': 30_730_000,
  }
  assert cifar.file_sizes(DATASETS['cifar100']) == {
    'train.bin': 153_700_000,
    'test.bin': 30_740_000,
  }


def test_several_files_a_split(tmp_path):
  spec = dataclasses.replace(
    DATASETS['cifar10'], train_examples=50, test_examples=10
  )
  rows = np.random.default_rng(0).integers(0, 256, (60, 3073), np.uint8)
  rows[:, 0] = np.arange(60) % 10
  for i, name in enumerate(cifar.file_sizes(spec)):
    rows[10 * i : 10 * i + 10].tofile(tmp_path / name)
  splits, _ = cifar.read_source(spec, tmp_path)
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
  rows['test'][3, 0] = 20


def spoil_counts(rows):
  rows['train'][0, 1] = 1


def spoil_presence(rows):
  del rows['test']


@pytest.mark.parametrize(
  'spoil, message',
  [
    (spoil_size, r'train\.bin .*33814'),
    (spoil_label, r'train\.bin: record 5 has label 4'),
    (spoil_coarse_label, r'test\.bin: record 3 has label 20'),
    (spoil_counts, r'train\.bin: class 0 has 2'),
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
    cifar.read_source(tiny_cifar.SPEC, source)


def test_archives_cannot_lead_astray(tmp_path):
  def read(path):
    return cifar.read_source(tiny_cifar.SPEC, path)

  members = tiny_cifar.members(tiny_cifar.rows())
  where = tmp_path / 'archives'
  where.mkdir()
  path = where / 'a.tar.gz'
  tiny_cifar.write_archive(path, [('../' + name, c) for name, c in members])
  with pytest.raises(ValueError, match=r'a\.tar\.gz .*cifar-100-binary/'):
    read(path)
  for kind in tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE:
    tiny_cifar.write_archive(path, [(name, b'') for name, _ in members], kind)
    with pytest.raises(ValueError, match=r'train\.bin'):
      read(path)
  tiny_cifar.write_archive(path, members[:1] + members)
  with pytest.raises(ValueError, match=r'train\.bin'):
    read(path)
  tiny_cifar.write_archive(path, [(members[0][0], bytes(10_000_000))])
  with pytest.raises(ValueError, match='10000000'):
    read(path)
  # Other members are ignored.
  extra = [('/etc/x', b'x'), ('cifar-100-binary/../../y', b'y')]
  splits, _ = read(tiny_cifar.write_archive(path, extra + members))
  assert splits.keys() == {'train', 'test'}
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
      cifar.read_source(tiny_cifar.SPEC, path)


def test_fingerprints_are_equal_for_folder_and_archive(tmp_path):
  rows = tiny_cifar.rows()
  expected = {
    f'{split}.bin': hashlib.sha256(array.tobytes()).hexdigest()
    for split, array in rows.items()
  }
  folder = tiny_cifar.write_folder(tmp_path / 'x', rows)
  path = tmp_path / 'a.tar.gz'
  tiny_cifar.write_archive(path, tiny_cifar.members(rows))
  for source in folder, folder.parent, path:
    assert cifar.read_source(tiny_cifar.SPEC, source)[1] == expected
    assert cifar.source_fingerprints(tiny_cifar.SPEC, source) == expected


@pytest.mark.slow
def test_cifar100_archive_is_the_folder(cifar100_archive, tmp_path):
  path = tmp_path / 'cifar-100-binary.tar.gz'
  with tarfile.open(path, 'w:gz', compresslevel=0) as archive:
    archive.add(cifar100_archive, 'cifar-100-binary')
  spec = DATASETS['cifar100']
  fingerprints = cifar.source_fingerprints(spec, path)
  assert fingerprints == cifar.source_fingerprints(
    spec, cifar100_archive.parent
  )
