"""Sweep entries: the configs that `launch.sweep` trains one after the other.

The config file defines `sweep(add, arg)` beside `get_config(arg)`; `arg` is the
ARG of the command line, or ''. The function calls `add` for each entry:

  add(arg='method=cutmix', seed=1, **{'optimizer.lr': 0.2})

`arg` is appended to the ARG of the command line, and the other keywords
override fields. Each entry is a run in `DIR/<its name>`: finished runs are
skipped and stopped runs resume.

The file may define the numbers of a paper, by the names of entries without
seed, and a remark on them:

  PAPER = {'method=cutmix': {'clean/top1': 0.8234}}

  NOTE = 'A remark on these numbers.'

and the option that marks the entries to which step times are relative:

  BASELINE = 'method=none'

`DIR/sweep.json` holds the entries and these definitions for `launch.report`;
PAPER and NOTE are omitted if the command line has an ARG or changes fields that
affect the results.
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

ENTRIES = flags.DEFINE_string(
  'entries',
  '',
  "Trains the entries whose names match, such as 'method=none*'.",
)
SLURM = flags.DEFINE_list(
  'slurm',
  None,
  'Submits the unfinished entries to SLURM: timeout_min=600,'
  'partition=gpu,gpus=1,concurrency=4.',
)


def run_sweep(argv: Sequence[str]) -> None:
  """Trains or submits the entries of a sweep that the flags select.

  An entry that another process trains is skipped, so that several processes may
  share a folder.

  Raises:
    FloatingPointError: an entry diverged; the others were trained.
  """
  cli.refuse_arguments(argv)
  workdir = cli.open_workdir()
  if (workdir / 'config.json').exists():
    raise ValueError(
      f'--workdir={workdir} is the folder of a run; a sweep needs another one'
    )
  flag = flags.FLAGS['config']
  path, _, arg = config_flags.get_config_filename(flag).partition(':')
  if path.endswith('.json'):
    raise ValueError(
      f'--config={path}: a sweep needs a .py config that defines sweep(); use '
      'python -m launch.main to train a .json config'
    )
  options = None if SLURM.value is None else parse_slurm(SLURM.value)
  overrides = config_flags.get_override_values(flag)
  module = load_config_file(path)
  entries = sweep_entries(module, arg, overrides)
  chosen = select_entries(entries, ENTRIES.value)
  # A changed recipe must not be compared with the paper.
  same_recipe = not arg and all(
    x in SAFE_FIELDS or is_location(x) for x in overrides
  )
  plan = {
    'entries': list(entries),
    'paper': getattr(module, 'PAPER', {}) if same_recipe else {},
    'note': getattr(module, 'NOTE', '') if same_recipe else '',
    'baseline': getattr(module, 'BASELINE', ''),
  }
  for name, config in chosen.items():
    check_workdir(config, workdir / name, cli.ALLOWED.value)
  _write_plan(workdir, plan)
  if options is not None:
    _submit(chosen, options, workdir)
    return
  results = {}
  for i, (name, config) in enumerate(chosen.items(), 1):
    log_line(f'[{i}/{len(chosen)}] {name}', sys.stdout)
    results[name] = _train_entry(config, workdir / name)
  for name, result in results.items():
    log_line(f'{name}: {result}', sys.stdout)
  diverged = [x for x in results if results[x].startswith('diverged')]
  if diverged:
    raise FloatingPointError(
      f'{len(diverged)} of {len(chosen)} entries diverged: '
      f'{", ".join(diverged)}'
    )


def _train_entry(config: Config, workdir: pathlib.Path) -> str:
  """Trains an entry; returns its result as text."""
  try:
    task = load_task(config.task)
    allowed = cli.ALLOWED.value
    metrics = fit(task, config, workdir, allow_resume_change=allowed)
    return show_metrics(metrics)
  # Divergence is a result, for example of a learning rate that is too high.
  except FloatingPointError as error:
    result = f'diverged: {error}'
  except ValueError as error:
    if exit_code(error) != ExitCode.LOCK:
      raise
    result = f'skipped: {error}'
  log_line(result)
  return result


def _submit(
  entries: Mapping[str, Config], options: Slurm, workdir: pathlib.Path
) -> None:
  """Submits the unfinished entries."""
  check_cluster()
  commands = {}
  for name in entries:
    if final_metrics(workdir / name) is None:
      commands[name] = entry_command(sys.argv, name)
  if commands:
    submit(commands, options, workdir / 'slurm')
  log_line(
    f'{len(commands)} of {len(entries)} entries submitted; the others are '
    'finished',
    sys.stdout,
  )


def entry_command(argv: Sequence[str], name: str) -> list[str]:
  """Returns the command that trains one entry of a sweep.

  >>> entry_command(['x', '--config=c.py', '--slurm=gpus=1'], 'seed=1')[1:]
  ['-m', 'launch.sweep', '--config=c.py', '--entries=seed=1']
  """
  kept = []
  words = iter(argv[1:])
  for word in words:
    flag, equals, _ = word.partition('=')
    if flag.lstrip('-') not in ('slurm', 'entries'):
      kept.append(word)
    elif not equals:
      next(words, None)
  return [sys.executable, '-m', 'launch.sweep', *kept, f'--entries={name}']


def select_entries(
  entries: Mapping[str, Config], pattern: str
) -> dict[str, Config]:
  """Returns the entries whose names match a pattern; all if it is empty.

  Raises:
    ValueError: no name matches.
  """
  chosen = {
    name: config
    for name, config in entries.items()
    if fnmatch.fnmatchcase(name, pattern or '*')
  }
  if pattern and not chosen:
    raise ValueError(
      f'--entries={pattern} matches no entry (* matches any characters); the '
      f'entries are {", ".join(entries)}'
    )
  return chosen


def _write_plan(workdir: pathlib.Path, plan: Mapping[str, Any]) -> None:
  text = json.dumps(plan, indent=2) + '\n'
  path = workdir / 'sweep.json'
  # All jobs of an array write it at the same time.
  with hold_lock(workdir, name='sweep.json.lock', seconds=60):
    if not path.exists() or path.read_text() != text:
      write_text(path, text)


def load_config_file(path: str) -> ModuleType:
  """Imports a config file by its path.

  Raises:
    ValueError: it does not define `sweep` and `get_config`.
    OSError: it cannot be read.
  """
  spec = importlib.util.spec_from_file_location('sweep_config', path)
  if spec is None or spec.loader is None:
    raise ValueError(f'--config={path} is not a Python file')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  for function in ('get_config', 'sweep'):
    if not callable(getattr(module, function, None)):
      raise ValueError(
        f'--config={path}: the file does not define {function}()'
      )
  return module


def sweep_entries(
  module: ModuleType, base_arg: str, overrides: Mapping[str, Any]
) -> dict[str, Config]:
  """Returns the checked configs of all entries by name, in order.

  Args:
    module: a config file with `get_config(arg)` and `sweep(add, arg)`.
    base_arg: the ARG of the command line, for all entries; may be empty.
    overrides: fields of the command line, for all entries.

  Raises:
    ValueError: an entry does not match the config, two have the same name, or
      an entry sets a field that the command line sets as well.
  """
  entries = {}

  def add(arg: str = '', **fields: Any):
    name = entry_name(arg, fields)
    if name in entries:
      raise ValueError(f'sweep: two entries have the name {name!r}')
    twice = sorted(fields.keys() & overrides.keys())
    if twice:
      raise ValueError(
        f'--config.{twice[0]}={overrides[twice[0]]}: the entries of the sweep '
        'set this field; select some of them with --entries, or train one '
        'with python -m launch.main'
      )
    fields = {**overrides, **fields}
    try:
      config = module.get_config(
        ','.join(filter(None, [base_arg, arg])) or None
      )
      unknown = fields.keys() - flatten(config).keys()
      if unknown:
        raise ValueError(
          f'the config has no field {", ".join(sorted(unknown))}'
        )
      config.update_from_flattened_dict(fields)
      check_config(config.lock())
    except (ValueError, TypeError) as error:
      raise ValueError(f'sweep entry {name!r}: {error}') from error
    entries[name] = config

  module.sweep(add, base_arg)
  return entries


def entry_name(arg: str, fields: Mapping[str, Any]) -> str:
  """Returns the name of an entry, for its folder: `method=cutmix,seed=1`."""
  parts = [arg] if arg else []
  parts += [f'{field}={value}' for field, value in fields.items()]
  return re.sub(r'[^\w.,=+-]', '_', ','.join(parts)) or 'default'
