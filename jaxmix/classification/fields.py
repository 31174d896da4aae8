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


_TEXT = Rule(lambda x: isinstance(x, str) and '\0' not in x, 'a text')
_SWITCH = Rule(lambda x: isinstance(x, bool), 'True or False')
_EXAMPLES = _whole(0, 2**31 - 1)
_ALPHA = _number(1e-6, 1e6, 'a number above 0 (from 1e-6 to 1e6)')

_MODES = {'identity', 'mixup', 'cutmix', 'resizemix', 'fmix'}

RULES = {
  'label_smoothing': Rule(
    lambda x: type(x) in (int, float) and 0 <= x < 1,
    'a number from 0 to below 1',
  ),
  'model.name': _TEXT,
  'model.dtype': _TEXT,
  'augment.pad': _whole(0, 2**10),
  'augment.flip': _SWITCH,
  'augment.cutout': _whole(0, 2**10),
  'mix.candidates': Rule(
    lambda x: isinstance(x, tuple | list) and len(x) > 0 and set(x) <= _MODES,
    f'one or more of {", ".join(sorted(_MODES))}',
  ),
  'mix.weights': _several(
    _number(0, 1e6, ''), 'finite numbers of 0 or more, one for each candidate'
  ),
  'mix.scale': _several(_number(0, 1, ''), 'two numbers from 0 to 1'),
  'mix.method': _TEXT,
  'mix.spectrum': _TEXT,
  'mix.decay_power': _number(0, 100, 'a number from 0 to 100'),
  'mix.max_soft': _number(0, 0.5, 'a number from 0 to 0.5'),
  'mix.pairing': _TEXT,
  'mix.granularity': _TEXT,
  'data.name': _TEXT,
  'data.source': _TEXT,
  'data.dir': _TEXT,
  'data.download': _SWITCH,
  'data.feed': _TEXT,
  'data.train_examples': _EXAMPLES,
  'data.test_examples': _EXAMPLES,
}
_EVALUATORS = {
  'clean': {},
  'fgsm': {'epsilon': _number(0, 1, 'a number from 0 to 1')},
  'corruption': {'source': _TEXT},
  'occlusion': {'side': _number(0, 1, 'a number from 0 to 1')},
}


def check(config: Any) -> None:
  """Checks every field of the task that is no choice of names.

  Raises:
    ValueError: a field is missing, or its value is not allowed; begins with
      `config.<field>`.
  """
  for name in _block(config, 'mix'):
    if name != 'alpha' and f'mix.{name}' not in RULES:
      raise ValueError(f'config.mix.{name} is not an option of the mixing')
  for path, rule in [*RULES.items(), *_others(config)]:
    value = _value(config, path)
    if not rule.fits(value):
      raise ValueError(f'config.{path}={value!r} must be {rule.allowed}')


def _others(config: Any) -> Iterator[tuple[str, Rule]]:
  """The rules of fields that depend on others."""
  for name in _block(config, 'evals'):
    rules = {'batch_size': _whole(1, 2**20)} | _EVALUATORS.get(name, {})
    for option in _block(config, f'evals.{name}'):
      if option not in rules:
        raise ValueError(
          f'config.evals.{name}.{option} is not an option of this evaluation'
        )
    for option, rule in rules.items():
      yield f'evals.{name}.{option}', rule
  if hasattr(_value(config, 'mix.alpha'), 'keys'):
    for mode in _block(config, 'mix.alpha'):
      yield f'mix.alpha.{mode}', _ALPHA
  else:
    yield 'mix.alpha', _ALPHA
  if 'workers' in _block(config, 'data'):
    yield 'data.workers', _whole(0, 2**10)


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
