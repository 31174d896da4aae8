"""What the numbers depend on, and where they are kept."""

import importlib.util
import json
import os
import pathlib
import platform
import sys
from importlib import metadata
from typing import Any


def describe(*packages: str) -> dict[str, str]:
  """The device, the load, and the versions of what is installed."""
  # The sides measure, and need the memory of the device.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  import jax

  found = {
    name: metadata.version(name)
    for name in packages
    if importlib.util.find_spec(name.replace('-', '_'))
  }
  device = jax.devices()[0].device_kind
  if device == 'cpu':
    device = f'{_cpu_name()}, {cores()} cores'
  load = f'{os.getloadavg()[0]:.1f}'
  return {'device': device, 'load before': load, **found}


def heading(title: str, about: dict[str, str]) -> list[str]:
  """The first lines of a report: its command and what `describe` gave."""
  lines = [f'# {title}', '', f'`{" ".join(sys.orig_argv[1:])}`', '']
  return lines + [f'- {name}: {value}' for name, value in about.items()]


def cores() -> int:
  """How many this process may use."""
  return len(os.sched_getaffinity(0))


def save(name: str, text: str, numbers: dict[str, Any]) -> pathlib.Path:
  """Writes the Markdown and the JSON of a benchmark; returns the folder.

  Args:
    name: of the benchmark.
    text: for people.
    numbers: for programs; 'machine' is what `describe` gave.
  """
  device = numbers['machine']['device'].split('@')[0]
  label = '_'.join(''.join(c if c.isalnum() else ' ' for c in device).split())
  folder = pathlib.Path(__file__).parents[1] / 'results' / label.lower()
  folder.mkdir(parents=True, exist_ok=True)
  (folder / f'{name}.md').write_text(text)
  (folder / f'{name}.json').write_text(json.dumps(numbers) + '\n')
  return folder


def _cpu_name() -> str:
  path = pathlib.Path('/proc/cpuinfo')
  if path.exists():
    for line in path.read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()
