"""Resolved config: the config.json of a run, read without executing code.

It may come from an untrusted source, unlike a .py config: its fields are plain
values, and the one that names code, `task`, may only name a module of the
packages beside `launch`.
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
    ValueError: it cannot be read, is larger than `MAX_BYTES`, is nested deeper
      than `MAX_DEPTH`, is not an object, or has a duplicate or invalid field
      name or a number that is not finite; names the file.
  """
  try:
    # Opening a pipe would block until a process writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, 'rb') as file:
      if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise ValueError('it is not a regular file')
      data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
      raise ValueError(f'it has more than {MAX_BYTES} bytes')
    content = json.loads(
      data.decode('utf-8-sig'),
      parse_constant=_refuse_constant,
      object_pairs_hook=_to_fields,
    )
    if not isinstance(content, dict):
      raise ValueError('it is not a JSON object')
    return {name: _to_value(value, 1) for name, value in content.items()}
  except RecursionError:
    text = f'it is nested deeper than {MAX_DEPTH}'
  except OSError as error:
    text = error.strerror or str(error)
  except ValueError as error:
    text = str(error)
  raise ValueError(f'{path} is not a resolved config: {text}')


def check_task(name: str) -> None:
  """Checks that a task is a module of a package beside `launch`.

  It imports nothing: only the location of the top-level package is looked up.

  Raises:
    ValueError: the package is elsewhere, or does not exist.
  """
  root = pathlib.Path(__file__).resolve().parents[2]
  top = name.partition('.')[0]
  spec = importlib.util.find_spec(top) if top.isidentifier() else None
  folders = list(spec.submodule_search_locations or ()) if spec else []
  if not folders or any(
    pathlib.Path(folder).resolve().parent != root for folder in folders
  ):
    raise ValueError(
      f'config.task={name!r} of a .json config must be in a package beside '
      f'launch ({root}), because importing a module executes it; if you trust '
      f'this one, pass --config.task={name}'
    )


def _refuse_constant(constant: str) -> NoReturn:
  raise ValueError(f'{constant} is not a finite number')


def _to_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  fields = dict(pairs)
  for name, _ in pairs:
    if not name.isidentifier() or name.startswith('_'):
      raise ValueError(f'{name!r} is not a valid field name')
  if len(fields) != len(pairs):
    names = [name for name, _ in pairs]
    duplicate = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'the field {duplicate!r} appears twice')
  return fields


def _to_value(value: Any, depth: int) -> Any:
  if depth > MAX_DEPTH:
    raise RecursionError
  if isinstance(value, dict):
    return {name: _to_value(item, depth + 1) for name, item in value.items()}
  if isinstance(value, list):
    # Configs hold tuples, which JSON does not have.
    return tuple(_to_value(item, depth + 1) for item in value)
  if isinstance(value, float) and not math.isfinite(value):
    raise ValueError('it has a number that is too large')
  return value
