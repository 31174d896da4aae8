"""The argument of a config: `--config=configs/x.py:smoke,method=cutmix`."""

import contextlib
from typing import Any

from ml_collections import ConfigDict


def parse_arg(arg: str | None, **defaults: Any) -> Any:
  """Parses the text after the colon into typed values.

  Args:
    arg: names and values, `'smoke,method=cutmix,width=2'`, or None for all the
      defaults.
    **defaults: what can be given. The default says the type: for a bool the
      bare name switches it on; a str, an int or a float needs a value; a tuple
      lists the choices, the first of which is the default; a list of str takes
      the bare names that follow as well, `train=en,de`.

  Returns:
    A locked `ConfigDict` with a value for every name of `defaults`.

  Raises:
    ValueError: a name is unknown or given twice, or a value does not fit; the
      message says what is allowed.

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
        f'there are {", ".join(map(_describe, defaults.items()))}'
      )
    if name in given:
      raise ValueError(f'config argument {name!r} is given twice')
    given.add(name)
    values[name] = _convert(name, defaults[name], text if equals else None)
  return ConfigDict(values).lock()


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
      f'must be {_describe((name, default))}'
    )
  return known[text]


def _describe(item: tuple[str, Any]) -> str:
  name, default = item
  if isinstance(default, bool):
    return name
  if isinstance(default, tuple):
    return f'{name}={"|".join(map(str, default))}'
  if isinstance(default, list):
    return f'{name}=<str>,<str>,...'
  return f'{name}=<{type(default).__name__}>'
