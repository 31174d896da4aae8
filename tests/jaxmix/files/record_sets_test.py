import json
import os
import shutil

import numpy as np
import pytest

from jaxmix.files import record_sets
from tests.jaxmix.classification import tiny_imagenet, tiny_tfds

SHARDS, RECORDS = 3, 10


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """A set whose train split has three files, of 3, 4 and 3 records."""
  examples = [(b'\xff\xd8%d' % i, i % 4) for i in range(RECORDS)]
  return tiny_imagenet.prepare(
    tmp_path_factory.mktemp('set'),
    {'train': examples, 'validation': examples[:3]},
    shards=SHARDS,
  )


@pytest.fixture
def folder(prepared, tmp_path):
  return shutil.copytree(prepared, tmp_path / 'set' / prepared.name)


def check(folder, split='train'):
  return record_sets.check_shards(record_sets.open_set(folder), split)


def test_a_complete_set_passes_and_locates_its_records(folder):
  files = check(folder)
  assert len(files.paths) == SHARDS and sum(files.lengths) == RECORDS
  assert len(set(files.lengths)) == 2, (
    'files of equal length could be swapped unnoticed'
  )
  index = 0
  for path, length in zip(files.paths, files.lengths, strict=True):
    for record in range(length):
      expected = f"record {record} of {path} (example {index} of 'train')"
      assert files.locate(index) == expected
      index += 1


def damage(folder, how):
  first, second, _ = sorted(folder.glob('*train.array_record*'))
  content = second.read_bytes()
  if how == 'missing':
    second.unlink()
  elif how == 'empty':
    second.write_bytes(b'')
  elif how == 'pipe':
    second.unlink()
    os.mkfifo(second)
  elif how == 'folder':
    second.unlink()
    second.mkdir()
  elif how == 'text':
    second.write_text('not found\n' * 9999)
  elif how == 'no index':
    second.write_bytes(content[: len(content) // 2])
  elif how == 'swapped':
    second.write_bytes(first.read_bytes())
    first.write_bytes(content)
  return first if how == 'swapped' else second


@pytest.mark.parametrize(
  'how, error',
  [
    ('missing', FileNotFoundError),
    ('empty', ValueError),
    ('pipe', ValueError),
    ('folder', ValueError),
    ('text', ValueError),
    ('no index', ValueError),
    ('swapped', ValueError),
  ],
)
def test_a_damaged_file_is_named(folder, how, error):
  path = damage(folder, how)
  with pytest.raises(error, match=f'{path.name} .*remove {folder}'):
    check(folder)


@pytest.mark.parametrize('name', ['dataset_info.json', 'features.json'])
@pytest.mark.parametrize('how', ['missing', 'cut', 'pipe', 'list', 'empty'])
def test_a_damaged_description_is_named(folder, name, how):
  path = folder / name
  text = path.read_text()
  path.unlink()
  if how == 'pipe':
    os.mkfifo(path)
  elif how != 'missing':
    content = {'cut': text[: len(text) // 2], 'list': '[]', 'empty': ''}[how]
    path.write_text(content)
  with pytest.raises((ValueError, FileNotFoundError), match=name):
    record_sets.open_set(folder)


@pytest.mark.parametrize('name', ['dataset_info.json', 'features.json'])
def test_any_other_description_is_an_error_or_a_complete_set(folder, name):
  rng = np.random.default_rng(0)
  text = (folder / name).read_text()
  errors = 0
  for _ in range(60):
    spot, letter = int(rng.integers(len(text))), chr(rng.integers(32, 127))
    (folder / name).write_text(text[:spot] + letter + text[spot + 1 :])
    try:
      assert sum(check(folder).lengths) == RECORDS
    except (ValueError, FileNotFoundError) as error:
      errors += 1
      assert str(folder) in str(error)
  assert errors > 10


def test_another_number_of_records_than_declared(folder):
  path = folder / 'dataset_info.json'
  about = json.loads(path.read_text())
  for split in about['splits']:
    if split['name'] == 'train':
      split['shardLengths'][1] = '7'
  path.write_text(json.dumps(about))
  with pytest.raises(ValueError, match=r'00001-of-00003 has \d records.* 7'):
    check(folder)
  with pytest.raises(ValueError, match="'train', .*'test'"):
    check(folder, 'test')


def test_the_newest_version_is_found(tmp_path):
  assert record_sets.find_newest(tmp_path, 'cifar100') == (None, '')
  folder = tiny_tfds.prepare(tmp_path)
  assert record_sets.find_newest(tmp_path, 'cifar100') == (folder, '')
  half = tmp_path / 'cifar100' / '4.0.0'
  half.mkdir()
  assert record_sets.find_newest(tmp_path, 'cifar100')[0] == folder
  path = folder / 'dataset_info.json'
  text = path.read_text()
  path.write_text(text.replace('array_record', 'tfrecord'))
  found = record_sets.find_newest(tmp_path, 'cifar100')
  assert found[0] is None and str(folder) in found[1]
  path.write_text(text)
  moved = folder.rename(folder.with_name('3.1.0'))
  found = record_sets.find_newest(tmp_path, 'cifar100')
  assert found[0] is None and f'{moved} holds version 3.0.2' in found[1]
  shutil.rmtree(moved)
  found, remark = record_sets.find_newest(tmp_path, 'cifar100')
  assert found is None and str(half) in remark
  found, remark = record_sets.find_newest(path, 'cifar100')
  assert found is None
  (tmp_path / 'file').write_text('')
  assert (
    str(tmp_path / 'file') in record_sets.find_newest(tmp_path / 'file', 'x')[1]
  )


def test_the_fingerprint_is_of_names_and_sizes(folder):
  files = check(folder)
  before = record_sets.files_fingerprint(folder, files)
  moved = folder.rename(folder.parent.parent / folder.name)
  assert record_sets.files_fingerprint(moved, check(moved)) == before
  path = moved / 'dataset_info.json'
  path.write_text(path.read_text() + '\n')
  assert record_sets.files_fingerprint(moved, check(moved)) != before
