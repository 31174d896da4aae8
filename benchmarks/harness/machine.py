"""Machine description of a report, and the files that reports are saved to."""

import importlib.util
import json
import os
import pathlib
import platform
import sys
from importlib import metadata
from typing import Any


def describe(*packages: str) -> dict[str, str]:
  """Returns the device, the load, and versions of the installed packages."""
  # Leave the memory of the device to the sides, which measure.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  import jax

  versions = {
    name: metadata.version(name)
    for name in packages
    if importlib.util.find_spec(name.replace('-', '_'))
  }
  device = jax.devices()[0].device_kind
  if device == 'cpu':
    device = f'{_cpu_name()}, {cores()} cores'
  load = f'{os.getloadavg()[0]:.1f}'
  return {'device': device, 'load before': load, **versions}


def heading(title: str, about: dict[str, str]) -> list[str]:
  """Returns the first lines of a report: its command, and `describe`."""
  lines = [f'# {title}', '', f'`{" ".join(sys.orig_argv[1:])}`', '']
  return lines + [f'- {name}: {value}' for name, value in about.items()]


def cores() -> int:
  """Returns the number of cores that this process may use."""
  return len(os.sched_getaffinity(0))


def save(name: str, text: str, numbers: dict[str, Any]) -> pathlib.Path:
  """Writes the Markdown and the JSON of a benchmark; returns the folder.

  Args:
    name: name of the benchmark.
    text: the report as Markdown.
    numbers: the report as JSON; 'machine' is the result of `describe`.
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
