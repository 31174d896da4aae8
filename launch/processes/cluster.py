"""Cluster: the rank of this process in a run of several, and joining the run.

SLURM, Open MPI, Kubernetes and Cloud TPU are detected by jax, and all
communication uses jax: its coordinator and its collectives.
"""

import collections
import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax

# jax has a heartbeat and timeouts of its own, after which it aborts. They are
# longer by this factor, so that `launch.processes.watchdog` is the first to
# report that a peer failed.
_TIMEOUT_FACTOR = 20


class ProcessInfo(NamedTuple):
  """A process of a run of several.

  Attributes:
    rank: the index of the process, less than `count`.
    count: the number of processes.
    coordinator: HOST:PORT of process 0.
    local_devices: the indices of its devices on this machine; None: all.
  """

  rank: int
  count: int
  coordinator: str
  local_devices: Sequence[int] | None = None


def process_info(
  coordinator: str | None,
  process_id: int | None,
  num_processes: int | None,
  timeout: float,
) -> ProcessInfo | None:
  """Returns which process this is, from the flags or from the cluster.

  Args:
    coordinator: HOST:PORT of process 0, or None.
    process_id: the rank of this process, or None.
    num_processes: the number of processes, or None.
    timeout: seconds to wait for the name of process 0.

  Returns:
    The process; None if there is only one.

  Raises:
    ValueError: only some of the flags are given, a value is not allowed, or a
      cluster is detected but does not name this process.
  """
  flags = {
    '--coordinator': coordinator,
    '--process_id': process_id,
    '--num_processes': num_processes,
  }
  if all(value is None for value in flags.values()):
    process = _detect(round(timeout))
  else:
    if missing := [name for name, value in flags.items() if value is None]:
      raise ValueError(
        f'{missing[0]} is missing: give all of {", ".join(flags)}, or none of '
        'them on a cluster that jax detects'
      )
    assert coordinator is not None
    assert process_id is not None and num_processes is not None
    process = ProcessInfo(process_id, num_processes, coordinator)
  if process is None:
    return None
  _check(process)
  return process if process.count > 1 else None


def _detect(timeout: int) -> ProcessInfo | None:
  # The only way to detect the cluster without joining, which
  # `jax.distributed.initialize` would do.
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
        timeout,
      )
    )
  except Exception as error:  # each cluster raises errors of its own
    raise ValueError(
      'this looks like a process of a cluster, but its rank is unknown '
      f'({type(error).__name__}: {error}); give --coordinator=HOST:PORT, '
      '--process_id and --num_processes (localhost:1, 0 and 1 for a single '
      'process)'
    ) from error
  if coordinator is None or count is None or rank is None:
    return None
  return ProcessInfo(rank, count, coordinator, devices)


def _check(process: ProcessInfo) -> None:
  rank, count, coordinator, _ = process
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
    raise ValueError(
      f'--coordinator={coordinator!r} must be HOST:PORT of process 0'
    )
  if not 1 <= count <= 2**16:
    raise ValueError(f'--num_processes={count} must be from 1 to {2**16}')
  if not 0 <= rank < count:
    raise ValueError(
      f'--process_id={rank} must be from 0 to {count - 1}, less than '
      f'--num_processes={count}'
    )


@contextlib.contextmanager
def joined(process: ProcessInfo, timeout: float) -> Iterator[None]:
  """Joins the other processes, and shuts down together with them.

  Must be entered before anything else uses a device.

  Args:
    process: this process.
    timeout: seconds that the watchdog waits for a peer; jax waits longer.

  Raises:
    ValueError: the processes cannot connect, or their numbers of devices
      differ.
  """
  # Its handler would take SIGTERM, which `launch.shell.signals` handles.
  jax.config.update('jax_enable_preemption_service', False)
  seconds = round(_TIMEOUT_FACTOR * timeout)
  try:
    jax.distributed.initialize(
      process.coordinator,
      process.count,
      process.rank,
      process.local_devices,
      cluster_detection_method='deactivate',
      initialization_timeout=seconds,
      heartbeat_timeout_seconds=seconds,
      shutdown_timeout_seconds=seconds,
    )
  except RuntimeError as error:
    raise ValueError(
      f'--coordinator={process.coordinator}: process {process.rank} cannot '
      f'connect to the others ({" ".join(str(error).split())}); choose a free '
      'port (or set JAX_COORDINATOR_PORT) on a host that all processes can '
      'reach'
    ) from error
  _check_devices()
  yield
  # Not after an error: it would wait for peers that wait for this process.
  jax.distributed.shutdown()


def _check_devices() -> None:
  counts = collections.Counter(x.process_index for x in jax.devices())
  if len(set(counts.values())) > 1:
    text = ', '.join(f'rank {rank}: {n}' for rank, n in sorted(counts.items()))
    raise ValueError(
      f'the processes have different numbers of devices ({text}): give each '
      'process the same number, because a batch is divided equally'
    )


def is_joined() -> bool:
  """Returns whether this process has joined the other processes of its run."""
  return jax.distributed.is_initialized()


def is_peer_failure(error: BaseException) -> bool:
  """Returns whether a collective raised this error because a peer failed."""
  # Errors of XLA begin with a status code; those of gloo are ValueErrors.
  text = str(error).lower()
  return (
    is_joined()
    and isinstance(error, ValueError | RuntimeError)
    and re.match(r'[a-z_]+: ', text) is not None
    and re.search('gloo|nccl|rccl|coordination', text) is not None
  )
