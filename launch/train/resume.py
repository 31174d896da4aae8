"""Resuming a run: checks of its folder, its result, its newest checkpoint."""

import pathlib
import sys
import time
from collections.abc import Collection

from launch.checkpoints import manifest
from launch.checkpoints.manager import Checkpoints
from launch.config import Config
from launch.processes.sync import broadcast_from_rank_0, rank_0_first
from launch.shell.console import log_line
from launch.train.state import TrainState
from launch.workdir import config_file
from launch.workdir.identity import check_allowed, check_resume
from launch.workdir.metrics import final_metrics, read_metrics

# Seconds for which a network file system may hide what another machine wrote.
_VISIBILITY_TIMEOUT = 120


def check_workdir(
  config: Config, workdir: pathlib.Path, allowed: Collection[str] = ()
) -> dict[str, str]:
  """Checks that `workdir` holds this run or none.

  Args:
    config: the config of this process.
    workdir: the folder of the run.
    allowed: see `launch.workdir.identity.check_resume`.

  Returns:
    A sentence about each accepted change of the config, by its field.

  Raises:
    ValueError: its config.json cannot be read, or differs in a field that may
      not change, or `allowed` names a field that may never change.
  """
  check_allowed(config, allowed)
  if (workdir / 'sweep.json').exists():
    raise ValueError(
      f'{workdir} is the folder of a sweep: choose another --workdir, such as '
      'a folder in it'
    )
  path = workdir / 'config.json'
  # `exists` is False for a link to a missing file.
  if not path.exists() and not path.is_symlink():
    if manifest.steps(workdir / 'checkpoints') or read_metrics(workdir):
      raise ValueError(
        f'{workdir} has checkpoints or metrics.jsonl but no config.json, which '
        'describes the run that they belong to. Put config.json back, or '
        'choose another --workdir'
      )
    return {}
  try:
    old = config_file.read(path)
  except ValueError as error:
    raise ValueError(
      f'{error}. This file describes the run in {workdir}: put a good copy '
      'back, or choose another --workdir'
    ) from error
  try:
    return check_resume(old, config, allowed)
  except ValueError as error:
    raise ValueError(f'{workdir} holds a run with {error}') from error


def finished_metrics(
  workdir: pathlib.Path, *, extended: bool
) -> dict[str, float] | None:
  """Returns the final metrics of a finished run; None if it has to be trained.

  Prints that the run is finished, and a warning if its final state is lost.

  Args:
    workdir: the folder of the run.
    extended: whether the run gets more epochs, and so is not finished.
  """
  metrics = final_metrics(workdir)
  if not broadcast_from_rank_0(metrics is not None and not extended):
    return None
  log_line(f'{workdir}: finished before', sys.stdout)
  folder = workdir / 'checkpoints'
  try:
    newest = max(manifest.steps(folder), default=None)
    if newest is None:
      raise ValueError(f'{folder} holds no checkpoint')
    manifest.check(folder / str(newest), f'checkpoint {newest}')
  except (ValueError, OSError) as error:
    log_line(
      f'warning: {workdir} is finished and its metrics are valid, but its '
      f'final state is lost ({error}). Put back a copy, or train it again in '
      'another --workdir'
    )
  return metrics or {}


def restore_newest(
  checkpoints: Checkpoints, target: TrainState
) -> tuple[int, TrainState] | None:
  """Restores the newest good checkpoint, the same one in every process.

  Args:
    checkpoints: those of the run.
    target: see `Checkpoints.restore`.

  Returns:
    `(step, state)`, or None if there is no checkpoint.

  Raises:
    ValueError: see `Checkpoints.restore`.
    OSError: this process does not see the checkpoint that process 0 restored.
  """
  # Process 0 first, because it moves damaged checkpoints away.
  with rank_0_first('restore'):
    restored = checkpoints.restore(target)
  expected = broadcast_from_rank_0(restored[0] if restored else -1)
  deadline = time.monotonic() + _VISIBILITY_TIMEOUT
  while (restored[0] if restored else -1) != expected:
    if time.monotonic() > deadline:
      raise OSError(
        f'process 0 restored the checkpoint of step {expected}, which this '
        'process cannot find: --workdir must be one folder that all processes '
        'share'
      )
    time.sleep(1)
    restored = checkpoints.restore(target)
  return restored
