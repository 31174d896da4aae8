"""The trainer as people start it, and what it leaves behind."""

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from launch.checkpoints import manifest
from launch.workdir.metrics import read_metrics

# `make faults` runs every trial, `make test` a few of each kind.
FULL = os.environ.get('FAULTS') == 'full'
ROOT = pathlib.Path(__file__).resolve().parents[2]
TOY = 'tests/launch/toy_config.py'


def trials(few: int, all_of_them: int) -> range:
  """How often a fault is tried, in `make test` and in `make faults`."""
  return range(all_of_them if FULL else few)


class Ended(NamedTuple):
  """A process that has ended.

  Attributes:
    code: its exit code; a death by signal n is 128 + n, as a shell has it.
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
  """Starts `python -m launch.main`; `fields` are those of the config."""
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
  """Waits for the end of a process; kills it after so many seconds."""
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
  """Runs `start` to its end."""
  return wait(start(workdir, fields, *flags, **options), seconds)


def wait_for_step(
  process: subprocess.Popen[str], workdir: pathlib.Path, step: int
) -> None:
  """Waits until the metrics have a row of that step or a later one."""
  while process.poll() is None:
    rows = read_metrics(workdir)
    if rows and rows[-1]['step'] >= step:
      return
    time.sleep(0.005)
  raise AssertionError(f'ended before step {step}: {wait(process)}')


def refused(done: Ended, code: int, *said: str) -> None:
  """Asserts that a run ended with a code and one line, without a traceback."""
  assert done.code == code, f'exit {done.code}, not {code}: {done.err}'
  assert done.reason.startswith('error: '), done.err
  assert 'Traceback' not in done.err, f'a traceback: {done.err}'
  for text in said:
    assert text in done.reason, f'{text!r} is not in {done.reason!r}'


def digests(workdir: pathlib.Path) -> tuple[int, dict[str, Any]]:
  """The newest checkpoint: its step, and the sha256 of every array."""
  folder = workdir / 'checkpoints'
  step = max(manifest.steps(folder))
  return step, manifest.check(folder / str(step))['leaves']


def rows(workdir: pathlib.Path) -> list[dict[str, Any]]:
  """The metrics without what depends on the clock."""
  return [
    {k: v for k, v in row.items() if not k.startswith('time/')}
    for row in read_metrics(workdir)
  ]


def assert_same_run(workdir: pathlib.Path, whole: pathlib.Path) -> None:
  """Asserts that two runs ended in the same bits and told the same story."""
  assert digests(workdir) == digests(whole), 'the final state is another'
  assert rows(workdir) == rows(whole), 'rows of metrics are lost or doubled'
  left = [p.name for p in (workdir / 'checkpoints').glob('part-*')]
  assert not left, f'leftovers of a crash are still there: {left}'


def wait_for_save(
  process: subprocess.Popen[str], workdir: pathlib.Path, step: int
) -> None:
  """Waits until a checkpoint of that step or a later one is being written."""
  while process.poll() is None:
    for part in (workdir / 'checkpoints').glob('part-*'):
      name = part.name.removeprefix('part-')
      if name.isdecimal() and int(name) >= step:
        return
    time.sleep(0.0005)
  raise AssertionError(f'ended before a save of {step}: {wait(process)}')
