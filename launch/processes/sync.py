"""What the processes of a run have to agree on; one process agrees with itself.

Every process does the same at the same step, or waits for the others for ever.
So what one of them alone has met, a signal or another file, all must know.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from signal import Signals
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from launch.mesh import batch_sharded, device_put_global, replicated
from launch.shell.signals import StopSignals

T = TypeVar('T')


def check_same(facts: Mapping[str, Any]) -> None:
  """Checks that every process has the same facts; all must call it.

  Raises:
    ValueError: names a fact and the processes that have another than process 0.
  """
  if jax.process_count() == 1:
    return
  here = np.stack([_digest(value) for value in facts.values()])
  there = multihost_utils.process_allgather(here)
  for number, (name, value) in enumerate(facts.items()):
    same = (there[:, number] == there[0, number]).all(axis=1)
    if not same.all():
      other = np.flatnonzero(~same).tolist()
      raise ValueError(
        f'{name} of rank {", ".join(map(str, other[:8]))} is not that of rank '
        f'0 (rank {jax.process_index()} has {value!r}): all processes must '
        'have the same command, code and files'
      )


def _digest(value: Any) -> np.ndarray:
  digest = hashlib.sha256(repr(value).encode()).digest()
  return np.frombuffer(digest, np.uint32)


def of_rank_0(number: int) -> int:
  """Returns the number that process 0 gives; all must call it."""
  if jax.process_count() == 1:
    return number
  return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


@contextlib.contextmanager
def rank_0_first(place: str) -> Iterator[None]:
  """Has process 0 do something before the others do it.

  Args:
    place: of the program, another for each.
  """
  if jax.process_index():
    multihost_utils.sync_global_devices(place)
  yield
  if not jax.process_index():
    multihost_utils.sync_global_devices(place)


class StopConsensus:
  """The signals that came to any process, as of one call of the device ago.

  The devices count the votes between two calls, and what is read is the result
  that is there by then: no device waits.
  """

  def __init__(self, stop: StopSignals, mesh: Mesh):
    """Takes what this process is asked to do."""
    self._stop, self._mesh = stop, mesh
    self._count = jax.jit(
      lambda votes: votes.max(), out_shardings=replicated(mesh)
    )
    self._pending: jax.Array | None = None

  def __call__(self) -> Signals | None:
    """Returns the signal that all processes get at this place, or None."""
    if jax.process_count() == 1:
      return self._stop()
    own = np.full(self._mesh.size, self._stop() or 0, np.int32)
    before, votes = (
      self._pending,
      device_put_global(own, batch_sharded(self._mesh)),
    )
    self._pending = self._count(votes)
    number = 0 if before is None else int(jax.device_get(before))
    return Signals(number) if number else None

  def or_none(self, work: Callable[[], T]) -> T | None:
    """Returns what `work` returns; None if a signal has ended it.

    Of several processes none may end it alone: they wait for each other in it.
    """
    return self._stop.or_none(work) if jax.process_count() == 1 else work()
