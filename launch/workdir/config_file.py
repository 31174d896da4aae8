"""Resolved configs: the config.json of a run, read without running anything.

They may come from strangers, as a .py config may not: no field of them is more
than a value, and the one that names code, `task`, reaches no further than the
packages beside this one.
"""

import importlib.util
import json
import math
import os
import pathlib
import stat
from typing import Any, NoReturn

MAX_BYTES = 2**20
MAX_DEPTH = 16


def read(path: pathlib.Path) -> dict[str, Any]:
  """Reads a config.json: nested dicts of values, lists as tuples.

  Raises:
    ValueError: it cannot be read, is larger than `MAX_BYTES` or deeper than
      `MAX_DEPTH`, or is not an object of fields, each there once, with finite
      numbers; names the file.
  """
  try:
    # A pipe would wait for somebody to write to it.
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(opened, 'rb') as file:
      if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise ValueError('it is not a plain file')
      data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
      raise ValueError(f'it has more than {MAX_BYTES} bytes')
    content = json.loads(
      data.decode('utf-8-sig'),
      parse_constant=_no_number,
      object_pairs_hook=_fields,
    )
    if not isinstance(content, dict):
      raise ValueError('it is not an object of fields')
    return {name: _plain(value, 1) for name, value in content.items()}
  except RecursionError:
    text = f'it is nested deeper than {MAX_DEPTH}'
  except OSError as error:
    text = error.strerror or str(error)
  except ValueError as error:
    text = str(error)
  raise ValueError(f'{path} is not a resolved config: {text}')


def check_task(name: str) -> None:
  """Checks that a task is one of ours, not whatever Python could import.

  Runs nothing: only the top-level package is looked for, not in it.

  Raises:
    ValueError: it is not beside the package `launch`.
  """
  home = pathlib.Path(__file__).resolve().parents[2]
  top = name.partition('.')[0]
  spec = importlib.util.find_spec(top) if top.isidentifier() else None
  places = list(spec.submodule_search_locations or ()) if spec else []
  if not places or any(
    pathlib.Path(place).resolve().parent != home for place in places
  ):
    raise ValueError(
      f'config.task={name!r} of a .json config must be in a package beside '
      f'launch ({home}), as importing a module runs it; if you trust that '
      f'one, give --config.task={name} yourself'
    )


def _no_number(constant: str) -> NoReturn:
  raise ValueError(f'{constant} is not a finite number')


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  fields = dict(pairs)
  for name, _ in pairs:
    if not name.isidentifier() or name.startswith('_'):
      raise ValueError(f'{name!r} is not the name of a field')
  if len(fields) != len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'{twice!r} is there twice')
  return fields


def _plain(value: Any, depth: int) -> Any:
  if depth > MAX_DEPTH:
    raise RecursionError
  if isinstance(value, dict):
    return {name: _plain(item, depth + 1) for name, item in value.items()}
  if isinstance(value, list):
    # The configs hold tuples, for which JSON has no sign.
    return tuple(_plain(item, depth + 1) for item in value)
  if isinstance(value, float) and not math.isfinite(value):
    raise ValueError('a number in it is too large')
  return value
