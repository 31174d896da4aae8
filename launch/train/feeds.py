"""Feeds: chunks of K batches in an order fixed by the seed and the step.

The order has no state: the j-th example of step s has the position
p = s * batch + j, which is entry p % n of the permutation of epoch p // n. So a
feed can start at any step, no example is dropped, and a batch may hold the end
of one epoch and the start of the next.
"""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from launch.mesh import chunk_sharded, device_put_global, replicated
from launch.shell.exit_codes import ExitCode, classify_errors
from launch.task import PyTree, RandomAccess
from launch.train.schedule import StepSchedule

# Reader threads, unless the data source sets their number; examples that one
# reads at a time; and chunks on their way to the device.
_WORKERS = 16
_PIECE = 32
_CHUNKS_AHEAD = 2
# Chunks of the resident feed that go to the device in one transfer.
_CHUNKS_PER_TRANSFER = 32


class Feed(NamedTuple):
  """The batches of a run, from arrays on the device or streamed from the host.

  Attributes:
    schedule: the steps of the run, and how they are cut into chunks.
    data: arrays on the device that every dispatch reads besides its chunk.
    select: `select(data, item)` returns the batch of one step, where `item` is
      the chunk at that step; runs inside the compiled step.
    chunks: `chunks(step)` yields all chunks from `step` on, on the device.
  """

  schedule: StepSchedule
  data: PyTree
  select: Callable[[PyTree, PyTree], PyTree]
  chunks: Callable[[int], Iterator[PyTree]]


def make_feed(
  source: Mapping[str, np.ndarray] | RandomAccess,
  seed: int,
  schedule: StepSchedule,
  mesh: Mesh,
  *,
  everywhere: bool = False,
) -> Feed:
  """Returns the resident feed for a dict of arrays, else the streamed one."""
  if isinstance(source, Mapping):
    return resident_feed(source, seed, schedule, mesh, everywhere=everywhere)
  return streamed_feed(source, seed, schedule, mesh)


def count_examples(source: Mapping[str, np.ndarray] | RandomAccess) -> int:
  """Returns the number of examples N.

  Raises:
    ValueError: there are none, or the arrays differ in their leading axis.
  """
  if isinstance(source, Mapping):
    sizes = {name: len(array) for name, array in source.items()}
    if len(set(sizes.values())) != 1:
      raise ValueError(
        'the training arrays must all have the same number of examples (their '
        f'leading axis); they have {sizes}'
      )
    n = next(iter(sizes.values()))
  else:
    n = len(source)
  if n < 1:
    raise ValueError('the training data have no examples; at least 1 is needed')
  return n


def batch_indices(
  seed: int, n: int, batch: int, step: int, count: int
) -> np.ndarray:
  """Returns the indices of the examples of `count` steps from `step` on.

  Args:
    seed: seed of the order.
    n: number of examples.
    batch: number of examples in a batch.
    step: the first step, 0 or more.
    count: number of steps.

  Returns:
    int32 `[count, batch]`, each in [0, n).
  """
  start, end = step * batch, (step + count) * batch
  parts = []
  for epoch in range(start // n, (end - 1) // n + 1):
    first = epoch * n
    order = _order(seed, epoch, n).result()
    parts.append(order[max(0, start - first) : end - first])
  # The next epoch's order is drawn while this one trains.
  _order(seed, end // n + 1, n)
  return np.concatenate(parts).reshape(count, batch)


_DRAWER = ThreadPoolExecutor(1, 'order')


# Two epochs meet in a batch, the next is drawn, and reader threads may be an
# epoch apart.
@functools.lru_cache(maxsize=6)
def _order(seed: int, epoch: int, n: int) -> 'Future[np.ndarray]':
  return _DRAWER.submit(_permutation, seed, epoch, n)


def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
  rng = np.random.Generator(
    np.random.Philox(np.random.SeedSequence([seed, epoch]))
  )
  order = rng.permutation(n).astype(np.int32)
  order.flags.writeable = False
  return order


def resident_feed(
  arrays: Mapping[str, np.ndarray],
  seed: int,
  schedule: StepSchedule,
  mesh: Mesh,
  *,
  everywhere: bool = False,
) -> Feed:
  """Returns a feed of arrays on the device; its chunks are int32 `[K, B]`.

  Args:
    arrays: host arrays `[N, ...]`, copied to every device once.
    seed: seed of the order.
    schedule: gives N, the batch size and the chunks.
    mesh: the devices.
    everywhere: whether every device gets the indices of the whole batch.
  """
  n, batch = schedule.examples, schedule.batch_size
  sharding = replicated(mesh) if everywhere else chunk_sharded(mesh)
  # A transfer costs the host as much as a dispatch: many chunks share one.
  split = jax.jit(
    lambda indices: jnp.split(indices, _CHUNKS_PER_TRANSFER),
    out_shardings=sharding,
  )

  def chunks(step):
    count = schedule.chunk_size(step)
    indices = batch_indices(seed, n, batch, step, count)
    yield device_put_global(indices, sharding)
    step += count
    count = schedule.steps_per_dispatch * _CHUNKS_PER_TRANSFER
    while step < schedule.total_steps:
      # Past the end of the run too: another shape would be another program.
      indices = batch_indices(seed, n, batch, step, count)
      left = (schedule.total_steps - step) // schedule.steps_per_dispatch
      yield from split(device_put_global(indices, sharding))[:left]
      step += count

  return Feed(
    schedule=schedule,
    data=device_put_global(dict(arrays), replicated(mesh)),
    select=lambda data, item: {name: x[item] for name, x in data.items()},
    chunks=chunks,
  )


def streamed_feed(
  source: RandomAccess, seed: int, schedule: StepSchedule, mesh: Mesh
) -> Feed:
  """Returns a feed that reads ahead; its chunks are batches, `[K, B, ...]`.

  Threads read pieces of batches, in the order of the resident feed, one chunk
  ahead of those on their way to the device. Every process reads only the
  examples of its own devices. The number of threads changes no example.

  Args:
    source: the examples, read by index.
    seed: seed of the order.
    schedule: gives N, the batch size and the chunks.
    mesh: the devices.
  """
  local = schedule.batch_size // jax.process_count()
  pieces = -(-local // _PIECE)  # of a batch, of nearly equal lengths
  workers = getattr(source, 'workers', _WORKERS)
  if workers < 1:
    raise ValueError(
      f'the data source has workers={workers}; it must be 1 or more'
    )

  def read(piece):
    step, part = divmod(piece, pieces)
    first = jax.process_index() * local
    own = slice(
      first + part * local // pieces, first + (part + 1) * local // pieces
    )
    n, batch = schedule.examples, schedule.batch_size
    order = batch_indices(seed, n, batch, step, 1)[0]
    positions = step * batch + np.arange(own.start, own.stop)
    return read_examples(source, order[own], positions // n)

  def put(local_chunk):
    with jax.transfer_guard('allow'):
      return jax.make_array_from_process_local_data(
        chunk_sharded(mesh), local_chunk
      )

  def chunks(step):
    import grain  # A machine that trains from arrays may lack it.

    read_ahead = max(workers, schedule.steps_per_dispatch * pieces)
    parts = iter(
      grain.MapDataset.range(step * pieces, schedule.total_steps * pieces)
      .map(read)
      .to_iter_dataset(
        grain.ReadOptions(num_threads=workers, prefetch_buffer_size=read_ahead)
      )
    )
    while step < schedule.total_steps:
      count = schedule.chunk_size(step)
      # Errors of the reader threads are raised here.
      with classify_errors(ExitCode.DATA):
        some = list(itertools.islice(parts, count * pieces))
      chunk = jax.tree.map(
        lambda *x, k=count: np.concatenate(x).reshape(
          k, local, *x[0].shape[1:]
        ),
        *some,
      )
      yield jax.tree.map(put, chunk)
      step += count

  return Feed(
    schedule=schedule,
    data={},
    select=lambda data, batch: batch,
    chunks=lambda step: _ahead(chunks(step)),
  )


def read_examples(
  source: RandomAccess, indices: np.ndarray, epochs: np.ndarray
) -> PyTree:
  """Returns the examples at `indices` in `epochs`, stacked: `[n, ...]`."""
  if read := getattr(source, 'read', None):
    return read(indices, epochs)
  positions = indices.tolist()
  if read_many := getattr(source, '__getitems__', None):
    return _stack(read_many(positions))
  return _stack([source[i] for i in positions])


def _stack(trees: Sequence[PyTree]) -> PyTree:
  return jax.tree.map(lambda *x: np.stack(x), *trees)


def _ahead(chunks: Iterable[PyTree]) -> Iterator[PyTree]:
  chunks = iter(chunks)
  ready = deque()
  while True:
    # Transfers are asynchronous: the chunks in `ready` are on their way.
    while len(ready) < _CHUNKS_AHEAD:
      chunk = next(chunks, None)
      if chunk is None:
        yield from ready
        return
      ready.append(chunk)
    yield ready.popleft()
