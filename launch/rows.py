"""The rows of a table: what `launch.sweep` runs, one after the other.

The config file has `sweep(add)` beside `get_config(arg)`. It calls `add` for
each row:

  add(arg='method=cutmix', seed=1, **{'optimizer.lr': 0.2})

`arg` joins the ARG of the command line, the other keywords override fields.
Each row is a run in `DIR/<its name>`: what is finished is skipped, what was
stopped goes on.

A file may have the numbers of a paper too, of rows by their names without seed:

  PAPER = {'method=cutmix': {'clean/top1': 0.8234}}

`DIR/sweep.json` holds the rows and these, for `launch.report`; not these if the
command line has an ARG or changes more than where things lie.
"""

import importlib.util
import json
import re
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import config_flags

from launch import command
from launch.config import SAFE, Config, check_config, flatten
from launch.files import write_text
from launch.loop import fit
from launch.streams import say
from launch.task import load_task
from launch.timing import show_metrics


def run_sweep(argv: Sequence[str]) -> None:
  """Runs the sweep that the flags name.

  Raises:
    FloatingPointError: a row diverged; the others were run.
  """
  command.refuse_arguments(argv)
  workdir = command.open_workdir()
  flag = flags.FLAGS['config']
  path, _, arg = config_flags.get_config_filename(flag).partition(':')
  if path.endswith('.json'):
    raise ValueError(
      f'--config={path}: the rows of a table come from sweep(add) in a .py '
      'config; python -m launch.main trains this one'
    )
  overrides = config_flags.get_override_values(flag)
  module = load_config_file(path)
  rows = sweep_rows(module, arg, overrides)
  workdir.mkdir(parents=True, exist_ok=True)
  # A smaller or another run is not to be compared with the paper's.
  same = not arg and overrides.keys() <= SAFE
  paper = getattr(module, 'PAPER', {}) if same else {}
  about = {'rows': list(rows), 'paper': paper}
  write_text(workdir / 'sweep.json', json.dumps(about, indent=2) + '\n')
  results = {}
  for i, (name, config) in enumerate(rows.items(), 1):
    say(f'[{i}/{len(rows)}] {name}', sys.stdout)
    try:
      task = load_task(config.task)
      metrics = fit(
        task,
        config,
        workdir / name,
        allow_resume_change=command.ALLOWED.value,
      )
      results[name] = show_metrics(metrics)
    # One learning rate too high is a result too: the other rows still count.
    except FloatingPointError as error:
      results[name] = f'diverged: {error}'
      say(results[name])
  for name, result in results.items():
    say(f'{name}: {result}', sys.stdout)
  bad = [name for name in results if results[name].startswith('diverged')]
  if bad:
    raise FloatingPointError(
      f'{len(bad)} of {len(rows)} rows diverged: {", ".join(bad)}'
    )


def load_config_file(path: str) -> ModuleType:
  """Imports a config file by its path.

  Raises:
    ValueError: it has no `sweep` or no `get_config`.
    OSError: it cannot be read.
  """
  spec = importlib.util.spec_from_file_location('sweep_config', path)
  if spec is None or spec.loader is None:
    raise ValueError(f'--config={path}: not a Python file')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  for function in ('get_config', 'sweep'):
    if not callable(getattr(module, function, None)):
      raise ValueError(f'--config={path}: the file has no {function}()')
  return module


def sweep_rows(
  module: ModuleType, base_arg: str, overrides: Mapping[str, Any]
) -> dict[str, Config]:
  """Returns the config of every row by its name, in order, all checked.

  Args:
    module: a config file with `get_config(arg)` and `sweep(add)`.
    base_arg: the ARG of the command line, for all rows; may be empty.
    overrides: fields of the command line, for all rows; a row's own win.

  Raises:
    ValueError: a row does not fit the config, or two rows are the same.
  """
  rows = {}

  def add(arg: str = '', **fields: Any):
    name = row_name(arg, fields)
    if name in rows:
      raise ValueError(f'sweep: two rows are called {name!r}')
    fields = {**overrides, **fields}
    try:
      config = module.get_config(
        ','.join(filter(None, [base_arg, arg])) or None
      )
      unknown = fields.keys() - flatten(config).keys()
      if unknown:
        raise ValueError(f'the config has no {", ".join(sorted(unknown))}')
      config.update_from_flattened_dict(fields)
      check_config(config.lock())
    except (ValueError, TypeError) as error:
      raise ValueError(f'sweep row {name!r}: {error}') from error
    rows[name] = config

  module.sweep(add)
  return rows


def row_name(arg: str, fields: Mapping[str, Any]) -> str:
  """Returns the name of a row, fit for a folder: `method=cutmix,seed=1`."""
  parts = [arg] if arg else []
  parts += [f'{field}={value}' for field, value in fields.items()]
  return re.sub(r'[^\w.,=+-]', '_', ','.join(parts)) or 'default'
