"""Environment of a run: devices, versions, commit and command (env.json)."""

import collections
import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax
from absl import logging

from jaxmix.files.atomic import write_text
from launch.shell.signals import command

_PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'grain',
  'numpy',
)


def versions() -> dict[str, str | None]:
  """Returns the versions of the packages that affect the results."""

  def version(package):
    try:
      return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      return None

  return {package: version(package) for package in _PACKAGES}


def record_start(workdir: pathlib.Path, step: int) -> None:
  """Appends this start of the run to the list in `workdir/env.json`.

  If that fails it logs a warning, and the run continues.

  Args:
    workdir: the folder of the run.
    step: the number of steps done before.
  """
  path = workdir / 'env.json'
  try:
    starts = json.loads(path.read_text()) if path.exists() else []
    starts.append({'step': step} | _environment())
    write_text(path, json.dumps(starts, indent=2) + '\n')
  except (OSError, ValueError, AttributeError) as error:
    logging.warning('%s: this start was not recorded: %s', path, error)


def _environment() -> dict[str, Any]:
  changes = _git('status', '--porcelain')
  return {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'command': command(),
    'devices': [device.device_kind for device in jax.devices()],
    'processes': jax.process_count(),
    'cpu': _cpu(),
    'cores': _cores(),
    'versions': versions(),
    'python': platform.python_version(),
    'platform': platform.platform(),
    'git': _git('rev-parse', 'HEAD'),
    'git_dirty': None if changes is None else bool(changes),
  }


def machines(workdir: pathlib.Path) -> list[str]:
  """Returns the types of machines on which a run was started, without repeats.

  They are named by their devices, `2 × NVIDIA H100`; a CPU by its model and the
  number of cores available to the process. Empty if they were not recorded.
  """
  try:
    starts = json.loads((workdir / 'env.json').read_text())
    names = [_machine(start) for start in starts]
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    return []
  return list(dict.fromkeys(names))


def _machine(start: dict[str, Any]) -> str:
  devices = collections.Counter(start['devices'])
  text = ' + '.join(f'{n} × {kind}' for kind, n in devices.items())
  if set(devices) == {'cpu'}:
    text += f' ({start["cpu"]}, {start["cores"]} cores)'
  return text


def _cpu() -> str:
  """Returns the model name of the processor."""
  with contextlib.suppress(OSError):
    for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
      name, _, value = line.partition(':')
      if name.strip() == 'model name':
        return ' '.join(value.split())
  return platform.processor() or platform.machine()


def _cores() -> int | None:
  if hasattr(os, 'sched_getaffinity'):  # not on every system
    return len(os.sched_getaffinity(0))
  return os.cpu_count()


def _git(*arguments: str) -> str | None:
  try:
    return subprocess.run(
      ['git', *arguments],
      cwd=pathlib.Path(__file__).parent,
      env=os.environ | {'GIT_OPTIONAL_LOCKS': '0'},
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    ).stdout.strip()
  # Not a git repository, or git is not installed.
  except (OSError, subprocess.SubprocessError):
    return None
