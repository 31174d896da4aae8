"""Config arguments: what follows the colon in `--config=x.py:smoke,width=2`."""

import contextlib
from typing import Any

from ml_collections import ConfigDict


def parse_arg(arg: str | None, **defaults: Any) -> Any:
  """Parses a config argument into typed values.

  Args:
    arg: names and values, `'smoke,method=cutmix,width=2'`; None or empty gives
      the defaults.
    **defaults: the names that are allowed, with their defaults. The type of
      the default is that of the value. A bool is True if its bare name is
      given. A str, int or float needs a value. A tuple lists the choices, the
      default first: `('b', *CHOICES)` makes 'b' the default of CHOICES. A list
      of str takes the bare names that follow too, `train=en,de`.

  Returns:
    A locked `ConfigDict` with a value for every name of `defaults`.

  Raises:
    ValueError: a name is unknown or given twice, or a value is not allowed;
      the message names it and lists what is allowed.

  Examples:
    >>> arg = parse_arg('smoke,width=2', smoke=False, width=10, mix=('a', 'b'))
    >>> arg.smoke, arg.width, arg.mix
    (True, 2, 'a')
  """
  values = {
    name: default[0] if isinstance(default, tuple) else default
    for name, default in defaults.items()
  }
  given = set()
  name = ''
  for item in arg.split(',') if arg else []:
    if isinstance(defaults.get(name), list) and item.isalnum():
      if item not in defaults:
        values[name] = [*values[name], item]
        continue
    name, equals, text = item.partition('=')
    if name not in defaults:
      raise ValueError(
        f'unknown config argument {item!r}: '
        f'it must be one of {", ".join(map(_describe, defaults.items()))}'
      )
    if name in given:
      raise ValueError(f'config argument {name!r} is given twice')
    given.add(name)
    values[name] = _convert(name, defaults[name], text if equals else None)
  return ConfigDict(values).lock()


def seeds(arg: str) -> range:
  """Returns the seeds of a sweep entry: three, or one if `arg` has `smoke`."""
  return range(1 if 'smoke' in arg.split(',') else 3)


def _convert(name: str, default: Any, text: str | None) -> Any:
  if isinstance(default, bool):
    known: dict[str | None, Any] = {None: True, 'true': True, 'false': False}
  elif isinstance(default, tuple):
    known = {str(choice): choice for choice in default}
  elif isinstance(default, list):
    known = {text: [text]} if text else {}
  else:
    known = {}
    with contextlib.suppress(TypeError, ValueError):
      known = {text: type(default)(text)} if text else {}
  if text not in known:
    raise ValueError(
      f'config argument {name}={text or ""}: '
      f'it must be {_describe((name, default))}'
    )
  return known[text]


def _describe(item: tuple[str, Any]) -> str:
  name, default = item
  if isinstance(default, bool):
    return name
  if isinstance(default, tuple):
    return f'{name}={"|".join(dict.fromkeys(map(str, default)))}'
  if isinstance(default, list):
    return f'{name}=<str>,<str>,...'
  return f'{name}=<{type(default).__name__}>'
