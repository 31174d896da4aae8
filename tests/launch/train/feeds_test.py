import itertools
import time

import jax
import numpy as np
import pytest

from launch.mesh import make_mesh
from launch.train.feeds import (
  batch_indices,
  count_examples,
  make_feed,
  resident_feed,
  streamed_feed,
)
from launch.train.schedule import StepSchedule
from tests.launch import toy_task


@pytest.mark.parametrize(
  'n, batch', [(12, 4), (10, 4), (7, 3), (5, 5), (3, 8), (1, 2)]
)
def test_every_epoch_is_a_permutation(n, batch):
  steps = 3 * n  # `batch` times 3 whole epochs
  order = batch_indices(7, n, batch, 0, steps).reshape(-1)
  epochs = order.reshape(-1, n)
  assert order.dtype == np.int32
  assert (np.sort(epochs, axis=1) == np.arange(n)).all(), (
    'an example was dropped or seen twice in one epoch'
  )


def test_epochs_and_seeds_have_their_own_order():
  a = batch_indices(0, 50, 50, 0, 2)
  b = batch_indices(1, 50, 50, 0, 2)
  assert (a[0] != a[1]).any(), 'two epochs have the same order'
  assert (a != b).any(1).all(), 'two seeds have the same order'


@pytest.mark.parametrize('start', [0, 1, 2, 3, 9, 24])
@pytest.mark.parametrize('count', [1, 4])
def test_any_start_gives_the_suffix(start, count):
  whole = batch_indices(3, 10, 4, 0, 30)
  part = batch_indices(3, 10, 4, start, count)
  np.testing.assert_array_equal(
    part,
    whole[start : start + count],
    'a resumed run would see other examples than an uninterrupted one',
  )


def test_the_order_is_pinned():
  # A change here silently changes every resumed run: do not adjust lightly.
  np.testing.assert_array_equal(
    batch_indices(0, 6, 4, 0, 3), [[4, 0, 3, 5], [2, 1, 4, 1], [5, 3, 2, 0]]
  )


def batches(feed, step):
  """All batches from `step` on, one by one, on the host."""
  for chunk in feed.chunks(step):
    for k in range(len(jax.tree.leaves(chunk)[0])):
      item = jax.tree.map(lambda x, k=k: x[k], chunk)
      batch = feed.select(feed.data, item)
      yield jax.device_get({n: x for n, x in batch.items() if n != 'resident'})


class Many(toy_task.Rows):
  """Rows that can be read many at once."""

  def __init__(self):
    super().__init__()
    self.calls = 0

  def __getitems__(self, indices):
    self.calls += 1
    return [self[i] for i in indices]


@pytest.mark.parametrize(
  'rows, step', [(toy_task.Rows, 0), (Many, 7), (toy_task.Rows, 27)]
)
def test_resident_and_streamed_give_the_same_batches(rows, step):
  schedule = StepSchedule(5, toy_task.EXAMPLES, 16, 4)
  mesh = make_mesh()
  resident = batches(resident_feed(toy_task.arrays(), 0, schedule, mesh), step)
  streamed = batches(streamed_feed(rows(), 0, schedule, mesh), step)
  count = 0
  for a, b in itertools.zip_longest(resident, streamed):
    assert a is not None and b is not None, 'one feed ends before the other'
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
    count += 1
  assert count == schedule.total_steps - step


def test_chunks_have_the_sizes_of_the_schedule():
  schedule = StepSchedule(5, toy_task.EXAMPLES, 16, 4)
  for source in (toy_task.arrays(), toy_task.Rows()):
    feed = make_feed(source, 0, schedule, make_mesh())
    for step, expected in (0, [3, 4, 4, 4, 4, 4, 4, 4]), (15, [4, 4, 4, 4]):
      lengths = [len(jax.tree.leaves(b)[0]) for b in feed.chunks(step)]
      assert lengths == expected


class Visits:
  """Tells what it is asked for; slow here and there."""

  def __init__(self, workers):
    self.workers = workers

  def __len__(self):
    return 50

  def __getitem__(self, index):
    raise AssertionError('read() knows the epoch')

  def read(self, indices, epochs):
    assert len(indices) == len(epochs) <= 32
    time.sleep((indices[0] % 3) / 1000)
    return {'index': indices, 'epoch': epochs.astype(np.int32)}


@pytest.mark.parametrize('workers, step', [(1, 0), (2, 3), (5, 4), (2, 9)])
def test_the_source_gets_the_epoch(workers, step):
  # Batches of 80 are longer than an epoch, and are read in three pieces.
  schedule = StepSchedule(16, 50, 80, 4)
  feed = streamed_feed(Visits(workers), 3, schedule, make_mesh())
  got = list(batches(feed, step))
  assert len(got) == 10 - step
  for i, batch in enumerate(got, step):
    expected = batch_indices(3, 50, 80, i, 1)[0]
    np.testing.assert_array_equal(batch['index'], expected)
    np.testing.assert_array_equal(
      batch['epoch'], np.arange(i * 80, (i + 1) * 80) // 50
    )


def test_a_source_without_workers_is_refused():
  with pytest.raises(ValueError, match='workers=0'):
    streamed_feed(Visits(0), 3, StepSchedule(16, 50, 80, 4), make_mesh())


def test_read_many_is_used():
  rows = Many()
  feed = streamed_feed(rows, 0, StepSchedule(1, 100, 10, 2), make_mesh())
  list(feed.chunks(0))
  assert rows.calls == 10, 'the source is read one by one'


def test_an_error_of_the_source_arrives():
  class Broken(toy_task.Rows):
    def __getitem__(self, index):
      raise OSError(f'row {index} is damaged')

  feed = streamed_feed(Broken(), 0, StepSchedule(1, 100, 10, 2), make_mesh())
  with pytest.raises(OSError, match='is damaged'):
    next(feed.chunks(0))


@pytest.mark.parametrize(
  'source, message',
  [
    ({'x': np.zeros(3), 'y': np.zeros(4)}, "'x': 3, 'y': 4"),
    ({'x': np.zeros((0, 2))}, 'no examples'),
    ({}, r'\{\}'),
    ([], 'no examples'),
  ],
)
def test_bad_data_are_refused(source, message):
  with pytest.raises(ValueError, match=message):
    count_examples(source)
