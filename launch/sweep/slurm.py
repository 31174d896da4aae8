"""Rows of a sweep as the jobs of a SLURM array, through `submitit`.

A job is the command that a person would type, `launch.sweep --rows=NAME`: what
it finds begun goes on. When SLURM is about to take the machine away, it has the
trainer save, and queues itself again.
"""

import functools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from launch.shell.console import log_line

# Seconds before the end of its time at which a job is told, and how many of
# them the trainer has to save. (Two calls of the device, and a checkpoint.)
_NOTICE, _SAVING = 180, 120
# So often a row may run out of time and be queued again.
_TIMEOUTS = 100
_POLL = 0.2


class Slurm(NamedTuple):
  """What a row asks of the cluster; the rest is for `$SBATCH_ACCOUNT` etc.

  Attributes:
    timeout_min: after so many minutes a job ends, and is queued again.
    partition: its name; empty for the cluster's default.
    gpus: of each row, on one machine; 0 for none.
    concurrency: rows at once; 0 for as many as the cluster runs.
  """

  timeout_min: int
  partition: str = ''
  gpus: int = 1
  concurrency: int = 0


def parse_slurm(words: Sequence[str]) -> Slurm:
  """Reads --slurm.

  Raises:
    ValueError: an option is unknown, is given twice, lacks a value or has one
      that is not allowed; or timeout_min is missing.

  Examples:
    >>> parse_slurm(['timeout_min=60', 'partition=gpu'])
    Slurm(timeout_min=60, partition='gpu', gpus=1, concurrency=0)
  """
  options: dict[str, Any] = {}
  for word in words:
    name, _, value = word.partition('=')
    if name not in Slurm._fields or name in options:
      raise ValueError(
        f'--slurm: {word!r} is unknown or there twice: there are '
        f'{", ".join(f"{x}=..." for x in Slurm._fields)}'
      )
    if name == 'partition':
      fits = bool(value)
      options[name] = value
    else:
      least = 1 if name == 'timeout_min' else 0
      fits = value.isdecimal() and least <= int(value) < 2**20
      options[name] = int(value) if fits else value
    if not fits:
      what = 'a name' if name == 'partition' else 'a whole number'
      raise ValueError(f'--slurm: {word!r} must have {what} that makes sense')
  if 'timeout_min' not in options:
    raise ValueError(
      '--slurm needs timeout_min=..., the minutes that a job may take; a row '
      'that is not finished by then is queued again'
    )
  return Slurm(**options)


class Row:
  """A job: runs a command, and passes on that it is to stop."""

  def __init__(self, command: Sequence[str], folder: str):
    """Takes a command and the folder in which it was typed."""
    self._command = list(command)
    self._folder = folder
    self._process: Any = None

  def __call__(self) -> None:
    """Runs the command.

    Raises:
      RuntimeError: it ended with another code than 0; the job has failed.
    """
    # SLURM tells every process of the job, and this signal would end a trainer.
    ignore = functools.partial(signal.signal, signal.SIGUSR2, signal.SIG_IGN)
    self._process = subprocess.Popen(
      self._command, cwd=self._folder, preexec_fn=ignore
    )
    code = self._wait(None)
    if code == 128 + signal.SIGTERM:
      # Preemption begins with it. What follows queues the job again, unless the
      # job has ended by then.
      time.sleep(_NOTICE)
    if code:
      raise RuntimeError(f'exit code {code}: {self._command}')

  def checkpoint(self) -> Any:
    """Has the trainer save; returns what goes on with it in the next job."""
    import submitit

    if self._process is not None and self._process.poll() is None:
      self._process.terminate()
      if self._wait(_SAVING) is None:
        self._process.kill()
    again = Row(self._command, self._folder)
    return submitit.helpers.DelayedSubmission(again)

  def _wait(self, seconds: float | None) -> int | None:
    # Not process.wait(): a handler that interrupts it cannot wait too.
    deadline = time.monotonic() + (seconds or 0)
    while (code := self._process.poll()) is None:
      if seconds is not None and time.monotonic() > deadline:
        break
      time.sleep(_POLL)
    return code


def check_cluster() -> None:
  """Checks that jobs can be submitted from here.

  Raises:
    ModuleNotFoundError: there is no submitit.
    ValueError: there is no SLURM.
  """
  try:
    import submitit  # noqa: F401
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      "--slurm needs submitit, the extra `slurm`: pip install -e '.[slurm]'"
    ) from error
  for program in ('sbatch', 'srun'):
    if shutil.which(program) is None:
      raise ValueError(
        f'--slurm: there is no {program} here: submit from a machine of the '
        'cluster, or leave --slurm out to run the rows one after the other'
      )


def submit(
  commands: Mapping[str, Sequence[str]], options: Slurm, folder: pathlib.Path
) -> list[str]:
  """Submits commands as one array of jobs.

  Args:
    commands: by name of the row.
    options: the same for all.
    folder: for the jobs' output and submitit's files; the cluster's machines
      must see it too.

  Returns:
    The ids of the jobs.

  Raises:
    ValueError: SLURM does not take them.
    ModuleNotFoundError: there is no submitit.
  """
  check_cluster()
  import submitit
  from submitit.core import utils

  executor = submitit.SlurmExecutor(folder, max_num_timeout=_TIMEOUTS)
  about: dict[str, Any] = {'time': options.timeout_min}
  if options.partition:
    about['partition'] = options.partition
  if options.gpus:
    about['gpus_per_node'] = options.gpus
  executor.update_parameters(
    job_name='sweep',
    signal_delay_s=_NOTICE,
    stderr_to_stdout=True,
    array_parallelism=options.concurrency or len(commands),
    **about,
  )
  rows = [Row(command, os.getcwd()) for command in commands.values()]
  try:
    with executor.batch():
      jobs = [executor.submit(row) for row in rows]
  except (utils.FailedJobError, utils.FailedSubmissionError) as error:
    said = ' '.join(str(error).split())
    raise ValueError(f'--slurm: sbatch does not take it: {said}') from error
  for name, job in zip(commands, jobs, strict=True):
    log_line(f'{name}: job {job.job_id}, {job.paths.stdout}', sys.stdout)
  return [job.job_id for job in jobs]
