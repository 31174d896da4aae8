"""The rows of a table: what `launch.sweep` runs, one after the other.

The config file has `sweep(add, arg)` beside `get_config(arg)`, with the ARG of
the command line, or ''. It calls `add` for each row:

  add(arg='method=cutmix', seed=1, **{'optimizer.lr': 0.2})

`arg` joins the ARG of the command line, the other keywords override fields.
Each row is a run in `DIR/<its name>`: what is finished is skipped, what was
stopped goes on.

A file may have the numbers of a paper too, of rows by their names without seed:

  PAPER = {'method=cutmix': {'clean/top1': 0.8234}}

  NOTE = 'What else is to be known of these numbers.'

and which of its options names the row that the time of a step is compared with:

  BASELINE = 'method=none'

`DIR/sweep.json` holds the rows and these, for `launch.report`; not the numbers
if the command line has an ARG or changes more than where things lie.
"""

import fnmatch
import importlib.util
import json
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import config_flags

from jaxmix.files.atomic import write_text
from launch import cli
from launch.config import Config, check_config, flatten
from launch.shell.console import log_line
from launch.shell.exit_codes import ExitCode, exit_code
from launch.sweep.slurm import Slurm, check_cluster, parse_slurm, submit
from launch.task import load_task
from launch.train.loop import fit
from launch.train.progress import show_metrics
from launch.train.resume import check_workdir
from launch.workdir.identity import SAFE_FIELDS, is_location
from launch.workdir.lock import hold_lock
from launch.workdir.metrics import final_metrics

ROWS = flags.DEFINE_string(
  'rows', '', "Runs the rows whose names match, such as 'method=none*'."
)
SLURM = flags.DEFINE_list(
  'slurm',
  None,
  'Submits the rows that are not finished to SLURM: timeout_min=600,'
  'partition=gpu,gpus=1,concurrency=4.',
)


def run_sweep(argv: Sequence[str]) -> None:
  """Runs, or submits, what the flags name of a sweep.

  A row that another process trains is passed over: so several may share a
  folder.

  Raises:
    FloatingPointError: a row diverged; the others were run.
  """
  cli.refuse_arguments(argv)
  workdir = cli.open_workdir()
  flag = flags.FLAGS['config']
  path, _, arg = config_flags.get_config_filename(flag).partition(':')
  if path.endswith('.json'):
    raise ValueError(
      f'--config={path}: the rows of a table come from sweep() in a .py '
      'config; python -m launch.main trains this one'
    )
  options = None if SLURM.value is None else parse_slurm(SLURM.value)
  overrides = config_flags.get_override_values(flag)
  module = load_config_file(path)
  rows = sweep_rows(module, arg, overrides)
  chosen = choose_rows(rows, ROWS.value)
  # A smaller or another run is not to be compared with the paper's.
  same = not arg and all(x in SAFE_FIELDS or is_location(x) for x in overrides)
  about = {
    'rows': list(rows),
    'paper': getattr(module, 'PAPER', {}) if same else {},
    'note': getattr(module, 'NOTE', '') if same else '',
    'baseline': getattr(module, 'BASELINE', ''),
  }
  for name, config in chosen.items():
    check_workdir(config, workdir / name, cli.ALLOWED.value)
  _write_sweep(workdir, about)
  if options is not None:
    _submit(chosen, options, workdir)
    return
  results = {}
  for i, (name, config) in enumerate(chosen.items(), 1):
    log_line(f'[{i}/{len(chosen)}] {name}', sys.stdout)
    results[name] = _run_row(config, workdir / name)
  for name, result in results.items():
    log_line(f'{name}: {result}', sys.stdout)
  bad = [name for name in results if results[name].startswith('diverged')]
  if bad:
    raise FloatingPointError(
      f'{len(bad)} of {len(chosen)} rows diverged: {", ".join(bad)}'
    )


def _run_row(config: Config, workdir: pathlib.Path) -> str:
  """Trains a row; returns what became of it."""
  try:
    task = load_task(config.task)
    allowed = cli.ALLOWED.value
    metrics = fit(task, config, workdir, allow_resume_change=allowed)
    return show_metrics(metrics)
  # One learning rate too high is a result too: the other rows still count.
  except FloatingPointError as error:
    result = f'diverged: {error}'
  except ValueError as error:
    if exit_code(error) != ExitCode.LOCK:
      raise
    result = f'passed over: {error}'
  log_line(result)
  return result


def _submit(
  rows: Mapping[str, Config], options: Slurm, workdir: pathlib.Path
) -> None:
  """Submits the rows that are not finished."""
  check_cluster()
  commands = {}
  for name in rows:
    if final_metrics(workdir / name) is None:
      commands[name] = command_of_row(sys.argv, name)
  if commands:
    submit(commands, options, workdir / 'slurm')
  log_line(
    f'{len(commands)} of {len(rows)} rows submitted, the others are finished',
    sys.stdout,
  )


def command_of_row(argv: Sequence[str], name: str) -> list[str]:
  """Returns the command that runs one row of a sweep.

  >>> command_of_row(['x', '--config=c.py', '--slurm=gpus=1'], 'seed=1')[1:]
  ['-m', 'launch.sweep', '--config=c.py', '--rows=seed=1']
  """
  kept = []
  words = iter(argv[1:])
  for word in words:
    flag, equals, _ = word.partition('=')
    if flag.lstrip('-') not in ('slurm', 'rows'):
      kept.append(word)
    elif not equals:
      next(words, None)
  return [sys.executable, '-m', 'launch.sweep', *kept, f'--rows={name}']


def choose_rows(rows: Mapping[str, Config], pattern: str) -> dict[str, Config]:
  """Returns the rows whose names match a pattern; all, if it is empty.

  Raises:
    ValueError: none does.
  """
  chosen = {
    name: config
    for name, config in rows.items()
    if fnmatch.fnmatchcase(name, pattern or '*')
  }
  if pattern and not chosen:
    raise ValueError(
      f'--rows={pattern} is the name of no row (* stands for any letters): '
      f'there are {", ".join(rows)}'
    )
  return chosen


def _write_sweep(workdir: pathlib.Path, about: Mapping[str, Any]) -> None:
  text = json.dumps(about, indent=2) + '\n'
  path = workdir / 'sweep.json'
  # The jobs of an array all come here at once.
  with hold_lock(workdir, name='sweep.json.lock', seconds=60):
    if not path.exists() or path.read_text() != text:
      write_text(path, text)


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
    module: a config file with `get_config(arg)` and `sweep(add, arg)`.
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

  module.sweep(add, base_arg)
  return rows


def row_name(arg: str, fields: Mapping[str, Any]) -> str:
  """Returns the name of a row, fit for a folder: `method=cutmix,seed=1`."""
  parts = [arg] if arg else []
  parts += [f'{field}={value}' for field, value in fields.items()]
  return re.sub(r'[^\w.,=+-]', '_', ','.join(parts)) or 'default'
