import numpy as np
import pytest

from jaxretrieval.index import image_store
from jaxretrieval.index.sharded_array import Column, Features, ShardOffsets

COUNTS = {'a': 3, 'b': 0, 'c': 1, 'd': 4}
FLAT = [(name, i) for name, count in COUNTS.items() for i in range(count)]


def test_every_row_is_in_its_shard():
  offsets = ShardOffsets.of(COUNTS)
  assert offsets.size == len(FLAT)
  assert [offsets.locate(row) for row in range(offsets.size)] == FLAT
  for row in (-1, 8):
    with pytest.raises(IndexError, match=f'row {row}'):
      offsets.locate(row)


@pytest.mark.parametrize('start', range(9))
@pytest.mark.parametrize('stop', range(9))
def test_the_slices_of_rows_are_these_rows(start, stop):
  slices = ShardOffsets.of(COUNTS).slices(start, stop)
  rows = [(name, i) for name, a, b in slices for i in range(a, b)]
  assert rows == FLAT[start:stop]
  assert all(a < b for _, a, b in slices), 'a file is opened for no row'


def test_rows_beyond_32_bits():
  """More images than int32 counts, in shards of a million."""
  offsets = ShardOffsets.of({f'{i:05d}': 10**6 for i in range(5000)})
  assert offsets.size == 5 * 10**9
  for row in (0, 2**31, 2**32 + 7, offsets.size - 1):
    assert offsets.locate(row) == (f'{row // 10**6:05d}', row % 10**6)
  assert offsets.slices(2**32, 2**32 + 1) == [('04294', 967296, 967297)]


def test_no_rows():
  offsets = ShardOffsets.of({})
  assert offsets.size == 0 and offsets.slices(0, 1) == []


def save(folder, name, features):
  names = [f'{name}{i}' for i in range(len(features))]
  ids = [*range(len(names))]
  record = image_store.ShardRecord('e', 's', names, ids, {}, '')
  image_store.save(folder, name, record, features)


@pytest.fixture
def folder(tmp_path):
  image_store.start(tmp_path, image_store.ImageStore('e', 'n', 'l', [*COUNTS]))
  rng = np.random.default_rng(0)
  for name, count in COUNTS.items():
    save(tmp_path, name, rng.normal(size=(count, 5)).astype(np.float16))
  return tmp_path


def test_slices_are_those_of_the_whole(folder):
  parts = [np.load(image_store.paths(folder, name)[0]) for name in COUNTS]
  whole = np.concatenate(parts).astype(np.float32) / np.float32(3)
  found = Features(folder, ShardOffsets.of(COUNTS), 5, 3.0)
  assert found.shape == whole.shape and len(found) == len(whole)
  for rows in (slice(0, 8), slice(2, 5), slice(6, 99), slice(4, 4), slice(-3)):
    np.testing.assert_array_equal(found[rows], whole[rows])
  with pytest.raises(ValueError, match='step 2'):
    found[::2]


@pytest.mark.parametrize(
  'broken, message',
  [
    (np.zeros((2, 5), np.float16), 'with 3 rows'),
    (np.zeros((3, 5), np.float32), 'float32'),
    (np.zeros((3, 4), np.float16), 'width 4.*width 5'),
  ],
)
def test_features_that_are_not_what_they_were(folder, broken, message):
  np.save(image_store.paths(folder, 'a')[0], broken)
  with pytest.raises(ValueError, match=message):
    Features(folder, ShardOffsets.of(COUNTS), 5, 1.0)[0:8]


def test_a_file_beyond_2_to_the_31_bytes(tmp_path):
  """A sparse one: 2,500,000 rows of 1,280 are 6.4 GB."""
  (tmp_path / image_store.SHARDS).mkdir()
  path, _ = image_store.paths(tmp_path, 'a')
  shape = 2_500_000, 1280
  array = np.lib.format.open_memmap(path, 'w+', np.float16, shape)
  marked = [0, 2**31 // (2 * 1280), shape[0] - 1]
  for value, row in enumerate(marked, 1):
    array[row] = value
  del array
  if path.stat().st_blocks * 512 > 2**26:
    pytest.skip('this file system has no sparse files')
  found = Features(tmp_path, ShardOffsets.of({'a': shape[0]}), 1280, 1.0)
  for value, row in enumerate(marked, 1):
    block = found[max(row - 1, 0) : row + 1]
    assert block[-1].tolist() == [value] * 1280, f'row {row} is another'
    assert not block[:-1].any()


def test_a_column_is_read_by_row():
  asked = []

  def read(name):
    asked.append(name)
    return [f'{name}{i}' for i in range(COUNTS[name])]

  column = Column(ShardOffsets.of(COUNTS), read)
  assert len(column) == 8 and not asked
  assert column[np.int64(4)] == 'd0' and asked == ['d']
