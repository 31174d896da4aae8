"""Feeds: blocks of K batches in an order fixed by the seed and the step.

The order has no state: the j-th example of step s has the position
p = s * batch + j, which is entry p % n of the permutation of epoch p // n. So a
feed starts at any step, no example is dropped, and a batch may hold the end of
one epoch and the start of the next.
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

# Threads that read, unless the source says how many; examples that one reads at
# a time; and blocks on their way to the device.
_WORKERS = 16
_PIECE = 32
_BLOCKS_AHEAD = 2
# Blocks of the resident feed that go to the device together.
_CALLS_AT_ONCE = 32


class Feed(NamedTuple):
  """Where batches come from, whichever side of the device they lie on.

  Attributes:
    data: what every call of the compiled step reads besides its block.
    select: `select(data, item)` is the batch of one step, where `item` is the
      block at that step; runs inside the compiled step.
    blocks: `blocks(step)` yields the blocks of all calls from `step` on, on the
      device.
  """

  data: PyTree
  select: Callable[[PyTree, PyTree], PyTree]
  blocks: Callable[[int], Iterator[PyTree]]


def make_feed(
  source: Mapping[str, np.ndarray] | RandomAccess,
  seed: int,
  plan: StepSchedule,
  mesh: Mesh,
  *,
  everywhere: bool = False,
) -> Feed:
  """Returns the resident feed for a dict of arrays, else the streamed one."""
  if isinstance(source, Mapping):
    return resident_feed(source, seed, plan, mesh, everywhere=everywhere)
  return streamed_feed(source, seed, plan, mesh)


def count_examples(source: Mapping[str, np.ndarray] | RandomAccess) -> int:
  """Returns the number of examples N.

  Raises:
    ValueError: there are none, or the arrays differ in their leading axis.
  """
  if isinstance(source, Mapping):
    sizes = {name: len(array) for name, array in source.items()}
    if len(set(sizes.values())) != 1:
      raise ValueError(
        f'the training arrays must have one leading axis N: got {sizes}'
      )
    n = next(iter(sizes.values()))
  else:
    n = len(source)
  if n < 1:
    raise ValueError('the training data have no examples')
  return n


def batch_indices(
  seed: int, n: int, batch: int, step: int, count: int
) -> np.ndarray:
  """Returns the examples of `count` steps from `step` on.

  Args:
    seed: seed of the order.
    n: number of examples.
    batch: examples of one step.
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
  plan: StepSchedule,
  mesh: Mesh,
  *,
  everywhere: bool = False,
) -> Feed:
  """Returns a feed whose data lie on the device; blocks are int32 `[K, B]`.

  Args:
    arrays: host arrays `[N, ...]`, copied to every device once.
    seed: seed of the order.
    plan: gives N, the batch size and the calls.
    mesh: the devices.
    everywhere: whether every device has all rows of the blocks.
  """
  rows_of = functools.partial(batch_indices, seed, plan.examples)
  placed = replicated(mesh) if everywhere else chunk_sharded(mesh)
  # A transfer costs the host as much as a dispatch: many calls share one.
  split = jax.jit(
    lambda rows: jnp.split(rows, _CALLS_AT_ONCE), out_shardings=placed
  )

  def blocks(step):
    count = plan.call_size(step)
    yield device_put_global(rows_of(plan.batch_size, step, count), placed)
    step, count = step + count, plan.steps_per_dispatch * _CALLS_AT_ONCE
    while step < plan.total_steps:
      # Past the end of the run too: another shape would be another program.
      rows = rows_of(plan.batch_size, step, count)
      calls = (plan.total_steps - step) // plan.steps_per_dispatch
      yield from split(device_put_global(rows, placed))[:calls]
      step += count

  return Feed(
    data=device_put_global(dict(arrays), replicated(mesh)),
    select=lambda data, rows: {name: x[rows] for name, x in data.items()},
    blocks=blocks,
  )


def streamed_feed(
  source: RandomAccess, seed: int, plan: StepSchedule, mesh: Mesh
) -> Feed:
  """Returns a feed that reads ahead; blocks are the batches, `[K, B, ...]`.

  Threads read pieces of batches, in the order of the resident feed, one block
  ahead of those on their way to the device. Every process reads only the rows
  of its own devices. How many threads there are changes no example.

  Args:
    source: the examples, read by index.
    seed: seed of the order.
    plan: gives N, the batch size and the calls.
    mesh: the devices.
  """
  local = plan.batch_size // jax.process_count()
  pieces = -(-local // _PIECE)  # of a batch, of nearly equal lengths
  workers = getattr(source, 'workers', _WORKERS)
  if workers < 1:
    raise ValueError(f'the source has workers={workers}: must be 1 or more')

  def read(piece):
    step, part = divmod(piece, pieces)
    first = jax.process_index() * local
    rows = slice(
      first + part * local // pieces, first + (part + 1) * local // pieces
    )
    order = batch_indices(seed, plan.examples, plan.batch_size, step, 1)[0]
    positions = step * plan.batch_size + np.arange(rows.start, rows.stop)
    return read_examples(source, order[rows], positions // plan.examples)

  def put(local_rows):
    with jax.transfer_guard('allow'):
      return jax.make_array_from_process_local_data(
        chunk_sharded(mesh), local_rows
      )

  def blocks(step):
    import grain  # A machine that trains from arrays need not have it.

    read_ahead = max(workers, plan.steps_per_dispatch * pieces)
    parts = iter(
      grain.MapDataset.range(step * pieces, plan.total_steps * pieces)
      .map(read)
      .to_iter_dataset(
        grain.ReadOptions(num_threads=workers, prefetch_buffer_size=read_ahead)
      )
    )
    while step < plan.total_steps:
      count = plan.call_size(step)
      with classify_errors(
        ExitCode.DATA
      ):  # What cannot be read is told where it is used.
        some = list(itertools.islice(parts, count * pieces))
      block = jax.tree.map(
        lambda *x, k=count: np.concatenate(x).reshape(
          k, local, *x[0].shape[1:]
        ),
        *some,
      )
      yield jax.tree.map(put, block)
      step += count

  return Feed(
    data={},
    select=lambda data, batch: batch,
    blocks=lambda step: _ahead(blocks(step)),
  )


def read_examples(
  source: RandomAccess, indices: np.ndarray, epochs: np.ndarray
) -> PyTree:
  """Reads examples `[n]` as the epochs `[n]` see them; stacked, `[n, ...]`."""
  if read := getattr(source, 'read', None):
    return read(indices, epochs)
  rows = indices.tolist()
  read_many = getattr(source, '__getitems__', None)
  return _stack(read_many(rows) if read_many else [source[i] for i in rows])


def _stack(trees: Sequence[PyTree]) -> PyTree:
  return jax.tree.map(lambda *x: np.stack(x), *trees)


def _ahead(blocks: Iterable[PyTree]) -> Iterator[PyTree]:
  blocks = iter(blocks)
  ready = deque()
  while True:
    # Transfers are asynchronous: what waits here is on its way.
    while len(ready) < _BLOCKS_AHEAD:
      block = next(blocks, None)
      if block is None:
        yield from ready
        return
      ready.append(block)
    yield ready.popleft()
