"""What a run ran on: devices, versions, commit, command."""

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

from launch.files import write_text
from launch.signals import command

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
  """Returns the versions of the packages that numbers depend on."""

  def version(package):
    try:
      return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      return None

  return {package: version(package) for package in _PACKAGES}


def record_start(workdir: pathlib.Path, step: int) -> None:
  """Adds this start of the run to the list in `workdir/env.json`.

  If it cannot, it tells so: no run ends because of that.
  """
  path = workdir / 'env.json'
  try:
    starts = json.loads(path.read_text()) if path.exists() else []
    starts.append({'step': step} | _environment())
    write_text(path, json.dumps(starts, indent=2) + '\n')
  except (OSError, ValueError, AttributeError) as error:
    logging.warning('%s does not record this start: %s', path, error)


def _environment() -> dict[str, Any]:
  changes = _git('status', '--porcelain')
  return {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'command': command(),
    'devices': [device.device_kind for device in jax.devices()],
    'versions': versions(),
    'python': platform.python_version(),
    'platform': platform.platform(),
    'git': _git('rev-parse', 'HEAD'),
    'git_dirty': None if changes is None else bool(changes),
  }


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
  # A copy without git, or a machine without it, can train too.
  except (OSError, subprocess.SubprocessError):
    return None
