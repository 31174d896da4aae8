"""Cluster of trainer processes: a run of several processes on one machine."""

import pathlib
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from launch.checkpoints import manifest
from launch.processes import heartbeats
from tests.faults import trainer
from tests.faults.trainer import Ended


def free_port() -> int:
  """Returns a free port."""
  with socket.socket() as listener:
    listener.bind(('localhost', 0))
    return listener.getsockname()[1]


def start(
  workdir: pathlib.Path,
  count: int,
  fields: Mapping[str, Any] | None = None,
  *flags: str,
  devices: int = 1,
  missing: Sequence[int] = (),
  env: Mapping[int, Mapping[str, str]] | None = None,
  odd: Mapping[int, Mapping[str, Any]] | None = None,
  **options: Any,
) -> list[subprocess.Popen[str]]:
  """Starts `count` processes of `devices` CPUs each, except the missing ones.

  `env` and `odd` have environment variables and fields of single ranks.
  """
  cluster = [f'--coordinator=localhost:{free_port()}']
  cluster += [f'--num_processes={count}'] if count > 1 else []
  return [
    trainer.start(
      workdir,
      {**(fields or {}), **(odd or {}).get(rank, {})},
      *(cluster if count > 1 else []),
      *([f'--process_id={rank}'] if count > 1 else []),
      *flags,
      env={
        'JAX_NUM_CPU_DEVICES': str(devices),
        'NPROC': '10',  # it affects the rounding of convolutions
        **(env or {}).get(rank, {}),
      },
      **options,
    )
    for rank in range(count)
    if rank not in missing
  ]


def wait(
  processes: Sequence[subprocess.Popen[str]], seconds: float = 240
) -> list[Ended]:
  """Waits until all have ended."""
  try:
    return [trainer.wait(process, seconds) for process in processes]
  finally:
    for process in processes:
      process.kill()


def train(
  workdir: pathlib.Path, count: int, *arguments: Any, **options: Any
) -> list[Ended]:
  """Starts the processes, and waits until all have succeeded."""
  done = wait(start(workdir, count, *arguments, **options))
  for rank, one in enumerate(done):
    assert one.code == 0, f'rank {rank} ended with {one.code}: {one.err}'
  return done


def stopped(processes: Sequence[subprocess.Popen[str]]) -> list[Ended]:
  """Waits until all have been stopped by SIGTERM."""
  done = wait(processes)
  for rank, one in enumerate(done):
    assert one.code == 143, f'rank {rank} ended with {one.code}: {one.err}'
  return done


def trainer_of(workdir: pathlib.Path, rank: int) -> int:
  """Returns the process id of a trainer, from its heartbeat."""
  heartbeat = heartbeats.read(workdir / 'peers', rank)
  assert heartbeat is not None
  return heartbeat.pid


def wait_for_checkpoint(
  processes: Sequence[subprocess.Popen[str]],
  workdir: pathlib.Path,
  after: int = -1,
) -> None:
  """Waits until a run has a checkpoint of a step later than `after`."""
  deadline = time.monotonic() + 100
  while time.monotonic() < deadline:
    if max(manifest.steps(workdir / 'checkpoints'), default=-1) > after:
      return
    ended = [p.poll() for p in processes]
    assert ended == [None] * len(ended), [trainer.wait(p) for p in processes]
    time.sleep(0.02)
  raise AssertionError(f'{workdir} has no checkpoint after {after}')
