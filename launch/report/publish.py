"""Copies of finished runs to keep and to show: numbers, and nothing private.

What they have is what `launch.report` reads; where data lay, and whose machine
it was, they do not say.
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

_BLANK = ('data.source', 'data.dir')
# Flags that say where things lie: left out of commands, with their values.
_PLACES = ('workdir', 'compilation_cache', *(f'config.{x}' for x in _BLANK))
# What is kept of a start of a run.
_START = (
  *('step', 'time', 'command', 'devices', 'cpu', 'cores', 'versions'),
  *('python', 'platform', 'git', 'git_dirty'),
)


def keep_runs(
  runs: Sequence[RunFolder],
  folders: Sequence[pathlib.Path],
  into: pathlib.Path,
) -> str:
  """Copies the finished ones of `runs`, and what their sweeps plan.

  Of each there are config.json, without the places of the data; env.json,
  without those in commands; metrics.jsonl and evaluations.jsonl. A copy that is
  there already is completed, and may gain evaluations.

  Args:
    runs: those in `folders` and below.
    folders: each run is called as in its folder.
    into: the folder of the copies, made if need be.

  Returns:
    A sentence: how many are kept.

  Raises:
    ValueError: `into` is within a folder, or has another run (or sweep) of a
      name; nothing was written.
    OSError: it takes no files.
  """
  inside = [x for x in folders if into.resolve().is_relative_to(x.resolve())]
  if inside:
    raise ValueError(
      f'--keep={into} is within {inside[0]}: copies there would count as runs '
      'of their own; choose another folder'
    )
  files: dict[pathlib.Path, str] = {}
  finished = [run for run in runs if run.final is not None]
  for run in finished:
    target = into / _name(run.path, folders)
    for name, text in _files(run).items():
      _add(files, target / name, text)
  places = dict.fromkeys([*folders, *(run.path.parent for run in finished)])
  for place in places:
    if (place / 'sweep.json').exists():
      # A folder that is one run has its sweep beside it, not in it.
      target = into if place in folders else into / _name(place, folders)
      _add(files, target / 'sweep.json', (place / 'sweep.json').read_text())
  for path, text in files.items():
    if path.exists() and not _may_become(path, text):
      raise ValueError(
        f'{path} is of another {"sweep" if path.stem == "sweep" else "run"}: '
        'choose another --keep, or remove it'
      )
  for path, text in files.items():
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
  return f'{into}: {len(finished)} of {len(runs)} runs kept'


def _add(files: dict[pathlib.Path, str], path: pathlib.Path, text: str) -> None:
  if files.setdefault(path, text) != text:
    raise ValueError(
      f'two folders have {path.parent.name}/{path.name}: --keep one at a time'
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
  found = [x._asdict() for x in read_evaluations(run.path)]
  if found:
    lines = [x | {'options': _public(x['options'])} for x in found]
    files[FILE] = _lines(lines)
  if (run.path / 'env.json').exists():
    files['env.json'] = _starts(run.path / 'env.json')
  return files


def _starts(path: pathlib.Path) -> str:
  try:
    starts = [
      {name: start[name] for name in _START if name in start}
      | {'command': public_command(start['command'])}
      for start in json.loads(path.read_text())
    ]
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f'{path} is broken: {error!r}') from error
  return json.dumps(starts, indent=2) + '\n'


def _lines(rows: Sequence[Any]) -> str:
  return ''.join(json.dumps(row) + '\n' for row in rows)


def _may_become(path: pathlib.Path, text: str) -> bool:
  """Says whether what was kept before is of the same run."""
  old = path.read_text(errors='replace')
  if path.name == 'env.json' or old == text:
    return True
  if path.name == 'sweep.json':
    try:
      before, after = json.loads(old)['rows'], json.loads(text)['rows']
      return set(before) <= set(after)
    except (ValueError, TypeError, KeyError):
      return False
  return path.name == FILE and text.startswith(old)


def _public(value: Any, path: str = '') -> Any:
  """A config without the places of the data, and with names for paths."""
  if isinstance(value, dict):
    return {k: _public(v, f'{path}.{k}'.lstrip('.')) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [_public(item, path) for item in value]
  if isinstance(value, str):
    return '' if path in _BLANK else _last(value)
  return value


def _last(text: str) -> str:
  """The last part of a path of this machine; any other text as it is.

  >>> _last('/home/me/CIFAR-100-C'), _last('configs/a.py:small')
  ('CIFAR-100-C', 'configs/a.py:small')
  """
  here = text.startswith(('/', '~', '.')) or '://' in text
  return pathlib.PurePath(text).name if here else text


def public_command(command: str) -> str:
  """Returns a command line without the paths of a machine.

  >>> public_command('/opt/bin/python -m launch.main --config=c.py --workdir=W')
  'python -m launch.main --config=c.py'
  """
  kept = []
  words = iter(shlex.split(command))
  for word in words:
    name, equals, value = word.partition('=')
    if name.lstrip('-') in _PLACES and name.startswith('-'):
      if not equals:
        next(words, None)
      continue
    kept.append(f'{name}={_last(value)}' if equals else _last(word))
  return shlex.join(kept)
