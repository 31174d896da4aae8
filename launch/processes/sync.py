"""Agreement between the processes of a run; trivial for a single process.

All processes must do the same at the same step, or they wait for each other
forever. So what only one of them sees, a signal or a different file, must be
communicated to all.
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
  """Raises ValueError unless every process passes equal values.

  All processes must call it.

  Args:
    facts: values by name, in the same order in every process.

  Raises:
    ValueError: a fact differs; names it and the processes that differ from
      process 0.
  """
  if jax.process_count() == 1:
    return
  own = np.stack([_fingerprint(value) for value in facts.values()])
  gathered = multihost_utils.process_allgather(own)
  for number, (name, value) in enumerate(facts.items()):
    same = (gathered[:, number] == gathered[0, number]).all(axis=1)
    if not same.all():
      ranks = np.flatnonzero(~same).tolist()
      raise ValueError(
        f'{name} of rank {", ".join(map(str, ranks[:8]))} differs from rank 0 '
        f'(rank {jax.process_index()} has {value!r}): start all processes with '
        'the same command, code and files'
      )


def _fingerprint(value: Any) -> np.ndarray:
  digest = hashlib.sha256(repr(value).encode()).digest()
  return np.frombuffer(digest, np.uint32)


def broadcast_from_rank_0(number: int) -> int:
  """Returns the number that process 0 passes; all must call it."""
  if jax.process_count() == 1:
    return number
  return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


@contextlib.contextmanager
def rank_0_first(name: str) -> Iterator[None]:
  """Runs the block in process 0 before the other processes run it.

  Args:
    name: identifies this barrier; unique in the program.
  """
  if jax.process_index():
    multihost_utils.sync_global_devices(name)
  yield
  if not jax.process_index():
    multihost_utils.sync_global_devices(name)


class StopConsensus:
  """The stop signals of all processes, delayed by one dispatch.

  The devices combine the signals between two dispatches, and the host reads
  the result that is already there: no device waits.
  """

  def __init__(self, stop: StopSignals, mesh: Mesh):
    """Takes the signals of this process, and the mesh of the run."""
    self._stop, self._mesh = stop, mesh
    self._reduce = jax.jit(
      lambda numbers: numbers.max(), out_shardings=replicated(mesh)
    )
    self._pending: jax.Array | None = None

  def __call__(self) -> Signals | None:
    """Returns the signal that all processes act on at this point, or None."""
    if jax.process_count() == 1:
      return self._stop()
    own = np.full(self._mesh.size, self._stop() or 0, np.int32)
    numbers = device_put_global(own, batch_sharded(self._mesh))
    before, self._pending = self._pending, self._reduce(numbers)
    number = 0 if before is None else int(jax.device_get(before))
    return Signals(number) if number else None

  def or_none(self, work: Callable[[], T]) -> T | None:
    """Returns the result of `work`, or None if a signal interrupted it.

    With several processes it is not interrupted, because they wait for each
    other in it.
    """
    return self._stop.or_none(work) if jax.process_count() == 1 else work()
