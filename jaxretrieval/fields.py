"""The fields of a config that this task reads: their types and bounds.

Overrides on the command line have the types of what they override; a config of
another make, or a .json one, may hold anything. What a choice may be is left to
the modules that know.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Rule(NamedTuple):
  """What a field may be, for a computer and for people."""

  fits: Callable[[Any], bool]
  allowed: str


def _whole(first: int, last: int) -> Rule:
  # type(): True is an instance of int.
  return Rule(
    lambda x: type(x) is int and first <= x <= last,
    f'a whole number from {first} to {last}',
  )


def _number(first: float, last: float, text: str) -> Rule:
  return Rule(lambda x: type(x) in (int, float) and first <= x <= last, text)


def _several(rule: Rule, text: str) -> Rule:
  return Rule(
    lambda x: isinstance(x, tuple | list) and all(map(rule.fits, x)), text
  )


def _more(text: str) -> Rule:
  return Rule(lambda x: _LIST.fits(x) and len(x) > 0, text)


_TEXT = Rule(lambda x: isinstance(x, str) and '\0' not in x, 'a text')
_LIST = _several(_TEXT, 'a list of language codes; empty for all')
_SWITCH = Rule(lambda x: isinstance(x, bool), 'True or False')
_NOISE = _number(0, 1e6, 'a finite number of 0 or more (up to 1e6)')
_LENGTH = _number(1e-9, 1e9, 'a number above 0 (from 1e-9 to 1e9)')
_RATE = Rule(lambda x: type(x) in (int, float) and 0 <= x < 1, '')
_MOST = 2**31 - 1

RULES = {
  'model.hidden': _several(
    _whole(1, 2**16), 'whole numbers of 1 or more (up to 65536)'
  ),
  'model.dropout': _several(_RATE, 'rates in [0, 1), one for each block'),
  'model.output': _TEXT,
  'model.dtype': _TEXT,
  'model.feature_scale': _TEXT,
  'model.center_text': _SWITCH,
  'model.text_noise': _NOISE,
  'model.image_noise': _NOISE,
  'model.output_scale': _TEXT,
  'model.output_bias': _TEXT,
  'loss.name': _TEXT,
  'mining.miner': _TEXT,
  'mining.ranks': Rule(
    lambda x: _several(_whole(0, _MOST), '').fits(x) and len(x) == 2,
    'two whole numbers of 0 or more, (first, last)',
  ),
  'mining.bank': _SWITCH,
  'mining.block_size': _whole(1, 2**20),
  'data.name': _TEXT,
  'data.source': _TEXT,
  'data.dir': _TEXT,
  'data.text_encoder': _TEXT,
  'data.split': _TEXT,
  'data.languages': _LIST,
  'data.sampling': _TEXT,
  'data.balance': _TEXT,
  'data.train_images': _whole(0, _MOST),
  'data.on_overlap': _TEXT,
}
_LOSS = {
  'objective': _TEXT,
  'unit': _TEXT,
  'symmetric': _SWITCH,
  'rho': _LENGTH,
  'alpha1': _number(0, 1e6, 'a finite number of 0 or more (up to 1e6)'),
  'alpha2': _number(0, 1e6, 'a finite number of 0 or more (up to 1e6)'),
  'eta': _LENGTH,
  'margin': _LENGTH,
  'temperature': _LENGTH,
}
_EVALUATION = {
  'name': _TEXT,
  'source': _TEXT,
  'dir': _TEXT,
  'text_encoder': _TEXT,
  'split': _TEXT,
  'languages': _more('a list of one or more language codes'),
}


def check(config: Any) -> None:
  """Checks every field of the task that is no choice of names.

  Raises:
    ValueError: a field is missing, or its value is not allowed; begins with
      `config.<field>`.
  """
  for path, rule in [*RULES.items(), *_others(config)]:
    value = _value(config, path)
    if not rule.fits(value):
      raise ValueError(f'config.{path}={value!r} must be {rule.allowed}')


def _others(config: Any) -> Iterator[tuple[str, Rule]]:
  """The rules of fields that not every config has."""
  for name in _LOSS.keys() & set(_block(config, 'loss')):
    yield f'loss.{name}', _LOSS[name]
  for evaluation in _block(config, 'evals'):
    for name, rule in _EVALUATION.items():
      yield f'evals.{evaluation}.{name}', rule


def _value(config: Any, path: str) -> Any:
  block, _, name = path.rpartition('.')
  fields = _block(config, block) if block else config
  if name not in fields:
    raise ValueError(f'config.{path} is missing')
  return fields[name]


def _block(config: Any, path: str) -> Any:
  value = _value(config, path)
  if not hasattr(value, 'keys'):
    raise ValueError(f'config.{path}={value!r} must be a block of fields')
  return value
