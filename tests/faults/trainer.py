"""Trainer processes: starts `launch.main`, and reads the workdir."""

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from launch.checkpoints import manifest
from launch.workdir.metrics import read_metrics

# `make faults` runs all trials, `make test-all` some of each kind.
FULL = os.environ.get('FAULTS') == 'full'
ROOT = pathlib.Path(__file__).resolve().parents[2]
TOY = 'tests/launch/toy_config.py'


def trials(few: int, all_trials: int) -> range:
  """Returns the trials to run: few, or all with FAULTS=full."""
  return range(all_trials if FULL else few)


class Ended(NamedTuple):
  """The result of a process.

  Attributes:
    code: its exit code; 128 + n if it was killed by signal n.
    out: its stdout.
    err: its stderr.
  """

  code: int
  out: str
  err: str

  @property
  def reason(self) -> str:
    """The last line of stderr."""
    return (self.err.splitlines() or [''])[-1]


def start(
  workdir: pathlib.Path,
  fields: Mapping[str, Any] | None = None,
  *flags: str,
  config: str = TOY,
  env: Mapping[str, str] | None = None,
  within: Sequence[str] = (),
  **options: Any,
) -> subprocess.Popen[str]:
  """Starts `python -m launch.main`; `fields` override the config."""
  command = [*within, sys.executable, '-m', 'launch.main', f'--config={config}']
  command += [f'--workdir={workdir}', *flags]
  command += [
    f'--config.{name}={value}' for name, value in (fields or {}).items()
  ]
  return subprocess.Popen(
    command,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {'PYTHONUNBUFFERED': '1'} | dict(env or {}),
    **options,
  )


def wait(process: subprocess.Popen[str], seconds: float = 120) -> Ended:
  """Waits until a process ends; kills it after `seconds`."""
  try:
    out, err = process.communicate(timeout=seconds)
  except subprocess.TimeoutExpired:
    process.kill()
    out, err = process.communicate()
    raise AssertionError(f'still running after {seconds} s: {err}') from None
  code = process.returncode
  return Ended(128 - code if code < 0 else code, out, err)


def train(
  workdir: pathlib.Path,
  fields: Mapping[str, Any] | None = None,
  *flags: str,
  seconds: float = 120,
  **options: Any,
) -> Ended:
  """Starts a trainer and waits until it ends."""
  return wait(start(workdir, fields, *flags, **options), seconds)


def wait_for_step(
  process: subprocess.Popen[str], workdir: pathlib.Path, step: int
) -> None:
  """Waits until the metrics have a record of that step or of a later one."""
  while process.poll() is None:
    found = read_metrics(workdir)
    if found and found[-1]['step'] >= step:
      return
    time.sleep(0.005)
  raise AssertionError(f'ended before step {step}: {wait(process)}')


def refused(done: Ended, code: int, *names: str) -> None:
  """Asserts that a run ended with a code and one line that has the names."""
  assert done.code == code, f'exit {done.code}, not {code}: {done.err}'
  assert done.reason.startswith('error: '), done.err
  assert 'Traceback' not in done.err, f'a traceback: {done.err}'
  for text in names:
    assert text in done.reason, f'{text!r} is not in {done.reason!r}'


def fingerprints(workdir: pathlib.Path) -> tuple[int, dict[str, Any]]:
  """Returns the step of the newest checkpoint, and the hash of every array."""
  folder = workdir / 'checkpoints'
  step = max(manifest.steps(folder))
  return step, manifest.check(folder / str(step))['leaves']


def records(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the metric records without times."""
  return [
    {k: v for k, v in record.items() if not k.startswith('time/')}
    for record in read_metrics(workdir)
  ]


def assert_same_run(workdir: pathlib.Path, whole: pathlib.Path) -> None:
  """Asserts that two runs have the same final state and the same metrics."""
  assert fingerprints(workdir) == fingerprints(whole), 'the states differ'
  assert records(workdir) == records(whole), 'the metrics differ'
  left = [p.name for p in (workdir / 'checkpoints').glob('part-*')]
  assert not left, f'files of a crashed save are left: {left}'


def wait_for_save(
  process: subprocess.Popen[str], workdir: pathlib.Path, step: int
) -> None:
  """Waits until a checkpoint of that step or of a later one is written."""
  while process.poll() is None:
    for part in (workdir / 'checkpoints').glob('part-*'):
      name = part.name.removeprefix('part-')
      if name.isdecimal() and int(name) >= step:
        return
    time.sleep(0.0005)
  raise AssertionError(f'ended before a save of {step}: {wait(process)}')
