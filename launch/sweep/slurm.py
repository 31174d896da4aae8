"""SLURM jobs: the entries of a sweep as a job array, through `submitit`.

A job runs the command `launch.sweep --entries=NAME`, which resumes a stopped
run. When SLURM is about to end the job, the trainer saves a checkpoint and the
job is queued again.
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

# Seconds before its time limit at which a job gets a signal, and the part of
# them in which the trainer must save (two dispatches and a checkpoint).
_NOTICE_SECONDS, _SAVE_SECONDS = 180, 120
# How often a job may reach its time limit and be queued again.
_MAX_TIMEOUTS = 100
_POLL_SECONDS = 0.2


class Slurm(NamedTuple):
  """The resources of a job; others are set by `$SBATCH_ACCOUNT` etc.

  Attributes:
    timeout_min: time limit in minutes, after which a job is queued again.
    partition: the name of the partition; empty for the cluster's default.
    gpus: the number of GPUs of each job, on one machine.
    concurrency: the maximal number of jobs at a time; 0 for no limit.
  """

  timeout_min: int
  partition: str = ''
  gpus: int = 1
  concurrency: int = 0


def parse_slurm(words: Sequence[str]) -> Slurm:
  """Parses the flag --slurm.

  Raises:
    ValueError: an option is unknown, is repeated or has an invalid value, or
      timeout_min is missing.

  Examples:
    >>> parse_slurm(['timeout_min=60', 'partition=gpu'])
    Slurm(timeout_min=60, partition='gpu', gpus=1, concurrency=0)
  """
  options: dict[str, Any] = {}
  for word in words:
    name, _, value = word.partition('=')
    if name not in Slurm._fields or name in options:
      raise ValueError(
        f'--slurm: {word!r} is unknown or repeated; the options are '
        f'{", ".join(f"{x}=..." for x in Slurm._fields)}'
      )
    if name == 'partition':
      valid = bool(value)
      options[name] = value
    else:
      minimum = 1 if name == 'timeout_min' else 0
      valid = value.isdecimal() and minimum <= int(value) < 2**20
      options[name] = int(value) if valid else value
    if not valid:
      what = 'a name' if name == 'partition' else 'an integer in range'
      raise ValueError(f'--slurm: the value of {word!r} must be {what}')
  if 'timeout_min' not in options:
    raise ValueError(
      '--slurm needs timeout_min=..., the time limit of a job in minutes; a '
      'job that reaches it is queued again'
    )
  return Slurm(**options)


class Job:
  """A job of submitit: runs a command, and stops it when told to."""

  def __init__(self, command: Sequence[str], folder: str):
    """Takes a command and the folder to run it in."""
    self._command = list(command)
    self._folder = folder
    self._process: Any = None

  def __call__(self) -> None:
    """Runs the command.

    Raises:
      RuntimeError: its exit code was not 0, so the job failed.
    """
    # SLURM signals every process of the job; SIGUSR2 would end a trainer.
    ignore = functools.partial(signal.signal, signal.SIGUSR2, signal.SIG_IGN)
    self._process = subprocess.Popen(
      self._command, cwd=self._folder, preexec_fn=ignore
    )
    code = self._wait(None)
    if code == 128 + signal.SIGTERM:
      # Preemption begins with SIGTERM. The signal that follows queues the job
      # again, if the job is still running then.
      time.sleep(_NOTICE_SECONDS)
    if code:
      raise RuntimeError(f'exit code {code}: {self._command}')

  def checkpoint(self) -> Any:
    """Makes the trainer save; returns the submission that resumes it."""
    import submitit

    if self._process is not None and self._process.poll() is None:
      self._process.terminate()
      if self._wait(_SAVE_SECONDS) is None:
        self._process.kill()
    job = Job(self._command, self._folder)
    return submitit.helpers.DelayedSubmission(job)

  def _wait(self, seconds: float | None) -> int | None:
    # Not process.wait(), because a signal handler that interrupts it waits too.
    deadline = time.monotonic() + (seconds or 0)
    while (code := self._process.poll()) is None:
      if seconds is not None and time.monotonic() > deadline:
        break
      time.sleep(_POLL_SECONDS)
    return code


def check_cluster() -> None:
  """Checks that jobs can be submitted from this machine.

  Raises:
    ModuleNotFoundError: submitit is not installed.
    ValueError: the programs of SLURM are not installed.
  """
  try:
    import submitit  # noqa: F401
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      "--slurm needs submitit: pip install -e '.[slurm]'"
    ) from error
  for program in ('sbatch', 'srun'):
    if shutil.which(program) is None:
      raise ValueError(
        f'--slurm needs the program {program}: submit from a machine of the '
        'cluster, or omit --slurm to train the entries one after the other'
      )


def submit(
  commands: Mapping[str, Sequence[str]], options: Slurm, folder: pathlib.Path
) -> list[str]:
  """Submits commands as one array of jobs.

  Args:
    commands: by name of the entry.
    options: the resources of each job.
    folder: for the output of the jobs and the files of submitit; shared with
      the machines of the cluster.

  Returns:
    The ids of the jobs.

  Raises:
    ValueError: SLURM rejects the jobs.
    ModuleNotFoundError: submitit is not installed.
  """
  check_cluster()
  import submitit
  from submitit.core import utils

  executor = submitit.SlurmExecutor(folder, max_num_timeout=_MAX_TIMEOUTS)
  resources: dict[str, Any] = {'time': options.timeout_min}
  if options.partition:
    resources['partition'] = options.partition
  if options.gpus:
    resources['gpus_per_node'] = options.gpus
  executor.update_parameters(
    job_name='sweep',
    signal_delay_s=_NOTICE_SECONDS,
    stderr_to_stdout=True,
    array_parallelism=options.concurrency or len(commands),
    **resources,
  )
  entries = [Job(command, os.getcwd()) for command in commands.values()]
  try:
    with executor.batch():
      jobs = [executor.submit(entry) for entry in entries]
  except (utils.FailedJobError, utils.FailedSubmissionError) as error:
    text = ' '.join(str(error).split())
    raise ValueError(f'--slurm: sbatch failed: {text}') from error
  for name, job in zip(commands, jobs, strict=True):
    log_line(f'{name}: job {job.job_id}, {job.paths.stdout}', sys.stdout)
  return [job.job_id for job in jobs]
