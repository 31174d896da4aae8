"""The config of a run: the allowed values of its fields, and its JSON form."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxmix.files.atomic import write_text

# A ConfigDict. What its fields are is known once `check_config` has passed; no
# type checker can see it.
Config = Any


class _Rule(NamedTuple):
  types: tuple[type, ...]
  allows: Callable[[Any], bool]
  allowed: str


def _one_of(*names: str) -> _Rule:
  return _Rule((str,), names.__contains__, f'one of {", ".join(names)}')


def _whole(first: int, last: int) -> _Rule:
  text = f'a whole number from {first} to {last}'
  return _Rule((int,), lambda x: first <= x <= last, text)


def _number(first: float, last: float, text: str) -> _Rule:
  return _Rule((int, float), lambda x: first <= x <= last, text)


_MOST = 2**31 - 1  # of what is counted on the devices
_LONGEST = 1e6  # epochs
_AT_ONCE = 2**26  # examples; the indices of 32 calls are one int32 array
_NAME = _Rule(
  (str,),
  lambda x: all(part.isidentifier() for part in x.split('.')),
  'the import path of a module',
)
_SWITCH = _Rule((bool,), lambda x: True, 'True or False')
_SIZE = _whole(1, 2**20)
_COUNT = _whole(1, _MOST)
_FROM_0 = _whole(0, _MOST)
_EPOCHS = _Rule(
  (int, float),
  lambda x: 0 < x <= _LONGEST,
  'a finite number above 0, up to a million',
)
_EVERY = _Rule(
  (int, float),
  # Steps are divided by it.
  lambda x: x == 0 or 1e-6 <= x <= _LONGEST,
  'a finite number of epochs, 0 for never, else from a millionth to a million',
)
# Below and above, a float32 is 0 or infinite.
_RATE = _number(1e-37, 3e38, 'a finite number above 0 (from 1e-37 to 3e38)')
_NOT_NEGATIVE = _number(0, 3e38, 'a finite number, 0 or more (up to 3e38)')
_DECAY = _Rule((int, float), lambda x: 0 <= x < 1, 'a number from 0 to below 1')

_RULES = {
  'task': _NAME,
  'seed': _FROM_0,
  'epochs': _EPOCHS,
  'batch_size': _SIZE,
  'virtual_devices': _SIZE,
  'device_count_invariant': _SWITCH,
  'steps_per_dispatch': _SIZE,
  'log_every': _COUNT,
  'eval_every': _EVERY,
  'checkpoint_every': _EVERY,
  'keep_checkpoints': _COUNT,
  'max_save_failures': _FROM_0,
  'max_skipped_steps': _FROM_0,
  'tensorboard': _SWITCH,
  'optimizer.name': _one_of('sgd', 'adam'),
  'optimizer.lr': _RATE,
  'optimizer.schedule': _one_of('cosine', 'constant'),
  'optimizer.warmup_epochs': _NOT_NEGATIVE,
  'optimizer.weight_decay': _NOT_NEGATIVE,
}
_OPTIMIZER_RULES = {
  'sgd': {'optimizer.momentum': _DECAY, 'optimizer.nesterov': _SWITCH},
  'adam': {'optimizer.b1': _DECAY, 'optimizer.b2': _DECAY},
}


def check_config(config: Config) -> None:
  """Checks every field that the run time reads.

  Fields of the task are the task's to check.

  Raises:
    ValueError: a field is missing or has a value that is not allowed; the
      message names the field, its value and what is allowed.
  """
  fields = flatten(config)
  _check_rules(fields, _RULES)
  rules = _OPTIMIZER_RULES[fields['optimizer.name']]
  _check_optimizer_fields(fields, rules)
  _check_rules(fields, rules)
  known = rules.keys() | _RULES.keys()
  for field in fields:
    # A momentum that Adam would silently ignore is a mistake.
    if field.startswith('optimizer.') and field not in known:
      raise ValueError(
        f'config.{field}={fields[field]!r} is not a field of '
        f'{fields["optimizer.name"]}'
      )
  a_call = fields['steps_per_dispatch'] * fields['batch_size']
  if a_call > _AT_ONCE:
    raise ValueError(
      f'config.steps_per_dispatch={fields["steps_per_dispatch"]} of config.batch_size='
      f'{fields["batch_size"]} are {a_call} examples: at most {_AT_ONCE} go to '
      'the device together'
    )
  if fields['batch_size'] % fields['virtual_devices']:
    raise ValueError(
      f'config.batch_size={fields["batch_size"]} must be a multiple of '
      f'config.virtual_devices={fields["virtual_devices"]}'
    )
  if fields['optimizer.warmup_epochs'] >= fields['epochs']:
    raise ValueError(
      f'config.optimizer.warmup_epochs={fields["optimizer.warmup_epochs"]} '
      f'must be less than config.epochs={fields["epochs"]}'
    )
  if fields.get('optimizer.nesterov') and not fields['optimizer.momentum']:
    raise ValueError(
      'config.optimizer.nesterov=True needs config.optimizer.momentum above 0'
    )


def _check_optimizer_fields(
  fields: Mapping[str, Any], rules: Mapping[str, _Rule]
) -> None:
  """Raises ValueError if only the name of the optimizer was changed."""
  others = {x for known in _OPTIMIZER_RULES.values() for x in known}
  missing = [x for x in rules if x not in fields]
  useless = sorted(x for x in others - rules.keys() if x in fields)
  if missing and useless:
    name = fields['optimizer.name']
    raise ValueError(
      f'config.optimizer.name={name!r} alone is not enough: {name} has '
      f'{" and ".join(missing)}, and no {" or ".join(useless)}. No flag adds '
      'fields or removes them: write the block `optimizer` in the config file, '
      "or in a copy of a run's config.json"
    )


def _check_rules(fields: Mapping[str, Any], rules: Mapping[str, _Rule]) -> None:
  for field, rule in rules.items():
    if field not in fields:
      raise ValueError(f'config.{field} is missing: it must be {rule.allowed}')
    value = fields[field]
    # bool is a subclass of int: batch_size=True is not a number.
    fits = isinstance(value, rule.types) and (
      not isinstance(value, bool) or bool in rule.types
    )
    if not fits or not rule.allows(value):
      raise ValueError(f'config.{field}={value!r} must be {rule.allowed}')


def flatten(config: Config | Mapping[str, Any]) -> dict[str, Any]:
  """Returns the leaves of a config by dotted path: `{'optimizer.lr': 0.1}`."""
  flat = {}
  for name, value in config.items():
    # A dict or a ConfigDict, which is no Mapping; without importing it, as a
    # machine for benchmarks may lack ml_collections.
    if hasattr(value, 'items'):
      flat |= {f'{name}.{rest}': leaf for rest, leaf in flatten(value).items()}
    else:
      flat[str(name)] = value
  return flat


def config_json(config: Config) -> str:
  """Returns the config as JSON text, fields in their order."""
  return json.dumps(config.to_dict(), indent=2, default=str) + '\n'


def write_config(config: Config, workdir: pathlib.Path) -> None:
  """Writes `workdir/config.json`."""
  write_text(workdir / 'config.json', config_json(config))
