"""What a field of a config may be, for a computer and for people."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
  """A test of a value, and what it asks for in words."""

  fits: Callable[[Any], bool]
  allowed: str


def whole(first: int, last: int) -> Rule:
  """An int from `first` to `last`; True is none."""
  return Rule(
    lambda x: type(x) is int and first <= x <= last,
    f'a whole number from {first} to {last}',
  )


def number(first: float, last: float, text: str) -> Rule:
  """An int or a float from `first` to `last`."""
  return Rule(lambda x: type(x) in (int, float) and first <= x <= last, text)


def several(rule: Rule, text: str) -> Rule:
  """A tuple or list of what fits `rule`."""
  return Rule(
    lambda x: isinstance(x, tuple | list) and all(map(rule.fits, x)), text
  )


TEXT = Rule(lambda x: isinstance(x, str) and '\0' not in x, 'a text')
SWITCH = Rule(lambda x: isinstance(x, bool), 'True or False')
