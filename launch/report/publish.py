"""Copies of finished runs for publication, without private information.

They contain what `launch.report` reads, but no paths of data sets and no names
of machines.
"""

import json
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from jaxmix.files.atomic import write_text
from launch.report.runs import RunFolder
from launch.workdir import config_file
from launch.workdir.evaluations import FILE, read_evaluations
from launch.workdir.metrics import read_metrics

_PRIVATE = ('data.source', 'data.dir')
# Flags that hold paths: removed from commands together with their values.
_PATH_FLAGS = (
  'workdir',
  'compilation_cache',
  *(f'config.{x}' for x in _PRIVATE),
)
# The keys of a start of a run in env.json that are copied.
_START_KEYS = (
  *('step', 'time', 'command', 'devices', 'cpu', 'cores', 'versions'),
  *('python', 'platform', 'git', 'git_dirty'),
)


def publish_runs(
  runs: Sequence[RunFolder],
  folders: Sequence[pathlib.Path],
  into: pathlib.Path,
) -> str:
  """Copies the finished runs, and the plans of their sweeps.

  Each copy has config.json, without the paths of data; env.json, without paths
  in commands; metrics.jsonl and evaluations.jsonl. An existing copy is
  completed, and may gain evaluations.

  Args:
    runs: the runs at or below `folders`.
    folders: a copy has the path of its run relative to one of them.
    into: the folder of the copies, created if needed.

  Returns:
    A message that says how many runs were copied.

  Raises:
    ValueError: `into` is within a folder, or has a different run or sweep of
      the same name; nothing was written.
    OSError: `into` cannot be written.
  """
  inside = [x for x in folders if into.resolve().is_relative_to(x.resolve())]
  if inside:
    raise ValueError(
      f'--keep={into} is within {inside[0]}, where the copies would count as '
      'runs: choose another folder'
    )
  files: dict[pathlib.Path, str] = {}
  finished = [run for run in runs if run.final is not None]
  for run in finished:
    target = into / _name(run.path, folders)
    for name, text in _files(run).items():
      _add(files, target / name, text)
  parents = dict.fromkeys([*folders, *(run.path.parent for run in finished)])
  for parent in parents:
    if (parent / 'sweep.json').exists():
      # If a folder is itself a run, its sweep is in the parent folder.
      target = into if parent in folders else into / _name(parent, folders)
      _add(files, target / 'sweep.json', (parent / 'sweep.json').read_text())
  for path, text in files.items():
    if path.exists() and not _may_replace(path, text):
      raise ValueError(
        f'{path} belongs to another '
        f'{"sweep" if path.stem == "sweep" else "run"}: remove it, or choose '
        'another folder for --keep'
      )
  for path, text in files.items():
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
  return f'{into}: {len(finished)} of {len(runs)} runs copied'


def _add(files: dict[pathlib.Path, str], path: pathlib.Path, text: str) -> None:
  if files.setdefault(path, text) != text:
    raise ValueError(
      f'two folders have {path.parent.name}/{path.name}: use --keep for one '
      'folder at a time'
    )


def _name(path: pathlib.Path, folders: Sequence[pathlib.Path]) -> str:
  for folder in folders:
    if path == folder:
      return path.resolve().name
    if path.is_relative_to(folder):
      return str(path.relative_to(folder))
  return path.name


def _files(run: RunFolder) -> dict[str, str]:
  config = config_file.read(run.path / 'config.json')
  files = {
    'config.json': json.dumps(_public(config), indent=2) + '\n',
    'metrics.jsonl': _lines(read_metrics(run.path)),
  }
  evaluations = [x._asdict() for x in read_evaluations(run.path)]
  if evaluations:
    lines = [x | {'options': _public(x['options'])} for x in evaluations]
    files[FILE] = _lines(lines)
  if (run.path / 'env.json').exists():
    files['env.json'] = _starts(run.path / 'env.json')
  return files


def _starts(path: pathlib.Path) -> str:
  try:
    starts = [
      {name: start[name] for name in _START_KEYS if name in start}
      | {'command': public_command(start['command'])}
      for start in json.loads(path.read_text())
    ]
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f'{path} is invalid: {error!r}') from error
  return json.dumps(starts, indent=2) + '\n'


def _lines(records: Sequence[Any]) -> str:
  return ''.join(json.dumps(record) + '\n' for record in records)


def _may_replace(path: pathlib.Path, text: str) -> bool:
  """Returns whether an existing copy is of the same run."""
  old = path.read_text(errors='replace')
  if path.name == 'env.json' or old == text:
    return True
  if path.name == 'sweep.json':
    try:
      before, after = json.loads(old)['entries'], json.loads(text)['entries']
      return set(before) <= set(after)
    except (ValueError, TypeError, KeyError):
      return False
  return path.name == FILE and text.startswith(old)


def _public(value: Any, path: str = '') -> Any:
  """Returns a config without paths of data; of other paths the last part."""
  if isinstance(value, dict):
    return {k: _public(v, f'{path}.{k}'.lstrip('.')) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_public(item, path) for item in value]
  if isinstance(value, str):
    return '' if path in _PRIVATE else _last_part(value)
  return value


def _last_part(text: str) -> str:
  """Returns the last part of a local path; any other text unchanged.

  >>> _last_part('/home/me/CIFAR-100-C'), _last_part('configs/a.py:small')
  ('CIFAR-100-C', 'configs/a.py:small')
  """
  is_local = text.startswith(('/', '~', '.')) or '://' in text
  return pathlib.PurePath(text).name if is_local else text


def public_command(command: str) -> str:
  """Returns a command line without local paths.

  >>> public_command('/opt/bin/python -m launch.main --config=c.py --workdir=W')
  'python -m launch.main --config=c.py'
  """
  kept = []
  words = iter(shlex.split(command))
  for word in words:
    name, equals, value = word.partition('=')
    if name.lstrip('-') in _PATH_FLAGS and name.startswith('-'):
      if not equals:
        next(words, None)
      continue
    kept.append(f'{name}={_last_part(value)}' if equals else _last_part(word))
  return shlex.join(kept)
