"""The fields of a config that this task reads: their types and bounds.

Overrides on the command line have the types of what they override; a config of
another make, or a .json one, may hold anything. What a choice may be is left to
the modules that know.
"""

from collections.abc import Iterator
from typing import Any

from jaxretrieval.rules import SWITCH, TEXT, Rule, number, several, whole


def _more(text: str) -> Rule:
  return Rule(lambda x: _LIST.fits(x) and len(x) > 0, text)


_LIST = several(TEXT, 'a list of language codes; empty for all')
_NOISE = number(0, 1e6, 'a finite number of 0 or more (up to 1e6)')
_LENGTH = number(1e-9, 1e9, 'a number above 0 (from 1e-9 to 1e9)')
_RATE = Rule(lambda x: type(x) in (int, float) and 0 <= x < 1, '')
_MOST = 2**31 - 1

RULES = {
  'model.hidden': several(
    whole(1, 2**16), 'whole numbers of 1 or more (up to 65536)'
  ),
  'model.dropout': several(_RATE, 'rates in [0, 1), one for each block'),
  'model.output': TEXT,
  'model.dtype': TEXT,
  'model.feature_scale': TEXT,
  'model.center_text': SWITCH,
  'model.text_noise': _NOISE,
  'model.image_noise': _NOISE,
  'model.output_scale': TEXT,
  'model.output_bias': TEXT,
  'loss.name': TEXT,
  'mining.miner': TEXT,
  'mining.ranks': Rule(
    lambda x: several(whole(0, _MOST), '').fits(x) and len(x) == 2,
    'two whole numbers of 0 or more, (first, last)',
  ),
  'mining.bank': SWITCH,
  'mining.exchange': TEXT,
  'mining.block_size': whole(1, 2**20),
  'data.name': TEXT,
  'data.source': TEXT,
  'data.dir': TEXT,
  'data.text_encoder': TEXT,
  'data.split': TEXT,
  'data.languages': _LIST,
  'data.sampling': TEXT,
  'data.balance': TEXT,
  'data.train_images': whole(0, _MOST),
  'data.on_overlap': TEXT,
}
_LOSS = {
  'objective': TEXT,
  'unit': TEXT,
  'symmetric': SWITCH,
  'rho': _LENGTH,
  'alpha1': number(0, 1e6, 'a finite number of 0 or more (up to 1e6)'),
  'alpha2': number(0, 1e6, 'a finite number of 0 or more (up to 1e6)'),
  'eta': _LENGTH,
  'margin': _LENGTH,
  'temperature': _LENGTH,
}
_EVALUATION = {
  'name': TEXT,
  'source': TEXT,
  'dir': TEXT,
  'text_encoder': TEXT,
  'split': TEXT,
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
