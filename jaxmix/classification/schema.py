"""The fields of a config that this task reads: their types and bounds.

Overrides on the command line have the types of what they override; a config of
another make, or a .json one, may hold anything. What a choice may be is left to
the modules that know.
"""

from collections.abc import Iterator
from typing import Any

from jaxmix.classification import mixing
from jaxmix.classification.datasets import specs
from jaxmix.classification.rules import SWITCH, TEXT, Rule, number, whole

_EXAMPLES = whole(0, 2**31 - 1)

RULES = {
  'label_smoothing': Rule(
    lambda x: type(x) in (int, float) and 0 <= x < 1,
    'a number from 0 to below 1',
  ),
  'batch_norm': Rule(lambda x: x in ('global', 'ghost'), "'global' or 'ghost'"),
  'model.name': TEXT,
  'model.dtype': TEXT,
  'augment.cutout': whole(0, 2**10),
  'data.name': TEXT,
  'data.source': TEXT,
  'data.dir': TEXT,
  'data.download': SWITCH,
  'data.feed': TEXT,
  'data.train_examples': _EXAMPLES,
  'data.test_examples': _EXAMPLES,
}
_PICTURES = {
  'augment.pad': whole(0, 2**10),
  'augment.flip': SWITCH,
}
_SOUNDS = {
  'augment.shift': number(0, 1, 'a number of seconds from 0 to 1'),
  'augment.speed': number(0, 0.9, 'a number from 0 to 0.9'),
  'augment.noise': number(0, 1, 'a number from 0 to 1'),
}
_EVALUATORS = {
  'clean': {},
  'validation': {},
  'fgsm': {'epsilon': number(0, 1, 'a number from 0 to 1')},
  'corruption': {'source': TEXT},
  'occlusion': {'side': number(0, 1, 'a number from 0 to 1')},
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
  """The rules of fields that depend on others."""
  for name in _block(config, 'evals'):
    rules = {'batch_size': whole(1, 2**20)} | _EVALUATORS.get(name, {})
    for option in _block(config, f'evals.{name}'):
      if option not in rules:
        raise ValueError(
          f'config.evals.{name}.{option} is not an option of this evaluation'
        )
    for option, rule in rules.items():
      yield f'evals.{name}.{option}', rule
  yield from _mixing(config)
  # An unknown data set is told of where it is looked for.
  known = specs.DATASETS.get(str(_value(config, 'data.name')))
  rules = _SOUNDS if known and known.sample_rate else _PICTURES
  for name in _block(config, 'augment'):
    if f'augment.{name}' not in (*rules, 'augment.cutout'):
      raise ValueError(
        f'config.augment.{name} is not an option for data like '
        f'{config.data.name}'
      )
  yield from rules.items()
  if 'workers' in _block(config, 'data'):
    yield 'data.workers', whole(0, 2**10)


def _mixing(config: Any) -> Iterator[tuple[str, Rule]]:
  kind = _value(config, 'mix.name')
  rules = mixing.find(kind).RULES
  for name in _block(config, 'mix'):
    if name != 'name' and name not in rules:
      raise ValueError(f'config.mix.{name} is not an option of {kind}')
  for name, rule in rules.items():
    value = _value(config, f'mix.{name}')
    if name == 'alpha' and hasattr(value, 'keys'):  # one for each mode
      for mode in _block(config, f'mix.{name}'):
        yield f'mix.{name}.{mode}', rule
    else:
      yield f'mix.{name}', rule


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
