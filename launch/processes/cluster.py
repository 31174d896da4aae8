"""The processes of a run: how many there are, and which one this is.

SLURM, Open MPI, Kubernetes and Cloud TPU are found as jax finds them, and
everything between processes is jax's own: its coordinator, its collectives.
"""

import collections
import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

# Beside `launch.processes.watchdog`, which is to be the first to tell that a
# peer is lost, jax has a heartbeat and timeouts of its own, and aborts.
_PATIENCE = 20


class ProcessInfo(NamedTuple):
  """A process of a run of several.

  Attributes:
    rank: of this process, from 0 to before `count`.
    count: the number of processes.
    coordinator: HOST:PORT of process 0.
    local_devices: which of this machine's devices are its own; None: all.
  """

  rank: int
  count: int
  coordinator: str
  local_devices: Sequence[int] | None = None


def find(
  coordinator: str | None,
  process_id: int | None,
  num_processes: int | None,
  seconds: float,
) -> ProcessInfo | None:
  """Finds out which process this is, by the flags or by the cluster.

  Args:
    coordinator: HOST:PORT of process 0, or None.
    process_id: the rank of this process, or None.
    num_processes: how many there are, or None.
    seconds: how long a cluster may take to know the name of process 0.

  Returns:
    The member; None where there is but one process.

  Raises:
    ValueError: some of the flags are given and others are not, they have values
      that cannot be, or a cluster is there that does not say who this is.
  """
  given = {
    '--coordinator': coordinator,
    '--process_id': process_id,
    '--num_processes': num_processes,
  }
  if all(value is None for value in given.values()):
    member = _detect(round(seconds))
  else:
    if missing := [name for name, value in given.items() if value is None]:
      raise ValueError(
        f'{missing[0]} is missing: {", ".join(given)} belong together, or '
        'leave all of them out where a cluster says who is who'
      )
    assert coordinator is not None
    assert process_id is not None and num_processes is not None
    member = ProcessInfo(process_id, num_processes, coordinator)
  return _checked(member) if member else None


def _detect(seconds: int) -> ProcessInfo | None:
  # The only way to ask without joining. `jax.distributed.initialize` asks the
  # same, and joins.
  try:
    from jax._src.clusters import ClusterEnv
  except ImportError:  # another version of jax
    return None
  try:
    coordinator, count, rank, devices = (
      ClusterEnv.auto_detect_unset_distributed_params(
        os.environ.get('JAX_COORDINATOR_ADDRESS'),
        None,
        None,
        None,
        None,
        seconds,
      )
    )
  except Exception as error:  # each cluster has its own
    raise ValueError(
      f'this looks like a process of a cluster, but it does not say which '
      f'({type(error).__name__}: {error}); give --coordinator=HOST:PORT, '
      '--process_id and --num_processes (localhost:1, 0 and 1 if it is alone)'
    ) from error
  if coordinator is None or count is None or rank is None:
    return None
  return ProcessInfo(rank, count, coordinator, devices)


def _checked(member: ProcessInfo) -> ProcessInfo | None:
  rank, count, coordinator, _ = member
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise ValueError(
      f'--coordinator={coordinator!r} must be HOST:PORT of process 0'
    )
  if not 1 <= count <= 2**16:
    raise ValueError(f'--num_processes={count} must be from 1 to {2**16}')
  if not 0 <= rank < count:
    raise ValueError(
      f'--process_id={rank} must be from 0 to {count - 1}, one below '
      f'--num_processes={count}'
    )
  return member if count > 1 else None


@contextlib.contextmanager
def joined(member: ProcessInfo, seconds: float) -> Iterator[None]:
  """Joins the other processes, and leaves together with them.

  Must be entered before anything else uses a device.

  Args:
    member: who this is.
    seconds: how long the watchdog waits for a peer; jax waits longer.

  Raises:
    ValueError: they cannot meet, or one has more devices than another.
  """
  # It would have SIGTERM for itself, which `launch.shell.signals` listens to.
  jax.config.update('jax_enable_preemption_service', False)
  patience = round(_PATIENCE * seconds)
  try:
    jax.distributed.initialize(
      member.coordinator,
      member.count,
      member.rank,
      member.local_devices,
      cluster_detection_method='deactivate',
      initialization_timeout=patience,
      heartbeat_timeout_seconds=patience,
      shutdown_timeout_seconds=patience,
    )
  except RuntimeError as error:
    raise ValueError(
      f'--coordinator={member.coordinator}: process {member.rank} cannot meet '
      f'the others there ({" ".join(str(error).split())}); choose a port that '
      'nobody uses (or set JAX_COORDINATOR_PORT) and a host that all reach'
    ) from error
  _check_devices()
  yield
  # Not after an error: there it would wait for peers that wait for this one.
  jax.distributed.shutdown()


def _check_devices() -> None:
  counts = collections.Counter(x.process_index for x in jax.devices())
  if len(set(counts.values())) > 1:
    found = ', '.join(f'rank {rank}: {n}' for rank, n in sorted(counts.items()))
    raise ValueError(
      f'the processes have unequal numbers of devices ({found}): each has its '
      'rows of a batch, and must have as many as the others'
    )


def is_joined() -> bool:
  """Says whether this process is one of several that have found each other."""
  return jax.distributed.is_initialized()


def is_lost_peer(error: BaseException) -> bool:
  """Says whether an error is what a collective raises when a peer is gone."""
  # XLA's begin with a code; gloo's come as ValueError.
  text = str(error).lower()
  return (
    is_joined()
    and isinstance(error, ValueError | RuntimeError)
    and re.match(r'[a-z_]+: ', text) is not None
    and re.search('gloo|nccl|rccl|coordination', text) is not None
  )
