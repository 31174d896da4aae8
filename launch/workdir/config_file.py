"""Resolved config: the config.json of a run, read without executing code.

It may come from an untrusted source, unlike a .py config: its fields are plain
values, and the one that names code, `task`, may only name a module of the
packages beside `launch`.
"""

import importlib.util
import pathlib
from typing import Any

from jaxmix.files.untrusted import read_json

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
    content = read_json(path, MAX_BYTES, MAX_DEPTH, unique_keys=True)
    if not isinstance(content, dict):
      raise ValueError('it is not a JSON object')
    return _to_value(content)
  except OSError as error:
    reason = error.strerror or str(error)
  except ValueError as error:
    reason = str(error)
  raise ValueError(f'{path} is not a resolved config: {reason}')


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


def _to_value(value: Any) -> Any:
  """Returns a value of a config: JSON arrays as tuples, fields checked."""
  if isinstance(value, dict):
    for name in value:
      if not name.isidentifier() or name.startswith('_'):
        raise ValueError(f'{name!r} is not a valid field name')
    return {name: _to_value(item) for name, item in value.items()}
  if isinstance(value, list):
    # Configs hold tuples, which JSON does not have.
    return tuple(_to_value(item) for item in value)
  return value
