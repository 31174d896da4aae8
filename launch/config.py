"""The config of a run: what is allowed, and what a resume may change."""

import hashlib
import json
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from launch.files import write_text

# A ConfigDict. What its fields are is known once `check_config` has passed; no
# type checker can see it.
Config = Any

# A resumed run may change these: none of them touches the numbers computed.
RESUMABLE = frozenset(
  {
    'log_every',
    'keep_checkpoints',
    'tensorboard',
    'data.source',
    'data.dir',
    'data.download',
    'data.workers',
  }
)


class _Rule(NamedTuple):
  types: tuple[type, ...]
  allows: Callable[[Any], bool]
  allowed: str


def _one_of(*names: str) -> _Rule:
  return _Rule((str,), names.__contains__, f'one of {", ".join(names)}')


_NAME = _Rule((str,), bool, 'the import path of a module')
_SWITCH = _Rule((bool,), lambda x: True, 'True or False')
_COUNT = _Rule((int,), lambda x: x >= 1, 'a whole number, 1 or more')
_SEED = _Rule(
  (int,), lambda x: 0 <= x < 2**31, 'a whole number from 0 to 2**31 - 1'
)
_POSITIVE = _Rule(
  (int, float), lambda x: 0 < x < math.inf, 'a finite number above 0'
)
_NOT_NEGATIVE = _Rule(
  (int, float), lambda x: 0 <= x < math.inf, 'a finite number, 0 or more'
)
_DECAY = _Rule((int, float), lambda x: 0 <= x < 1, 'a number from 0 to below 1')

_RULES = {
  'task': _NAME,
  'seed': _SEED,
  'epochs': _POSITIVE,
  'batch_size': _COUNT,
  'steps_per_call': _COUNT,
  'log_every': _COUNT,
  'eval_every': _NOT_NEGATIVE,
  'checkpoint_every': _NOT_NEGATIVE,
  'keep_checkpoints': _COUNT,
  'tensorboard': _SWITCH,
  'optimizer.name': _one_of('sgd', 'adam'),
  'optimizer.lr': _POSITIVE,
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
  _check_rules(fields, rules)
  known = rules.keys() | _RULES.keys()
  for field in fields:
    # A momentum that Adam would silently ignore is a mistake.
    if field.startswith('optimizer.') and field not in known:
      raise ValueError(
        f'config.{field}={fields[field]!r} is not a field of '
        f'{fields["optimizer.name"]}'
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


def config_digest(config: Config) -> str:
  """Returns a hash of all the fields that a resumed run may not change."""
  fields = flatten(json.loads(config_json(config)))
  kept = {k: v for k, v in sorted(fields.items()) if k not in RESUMABLE}
  return hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:16]


def check_workdir(config: Config, workdir: pathlib.Path) -> None:
  """Checks that `workdir` holds this run or none.

  Raises:
    ValueError: its config.json differs in more than `RESUMABLE`; the message
      lists the fields with both values.
  """
  path = workdir / 'config.json'
  if not path.exists():
    return
  old = flatten(json.loads(path.read_text()))
  new = flatten(json.loads(config_json(config)))
  absent = '(absent)'
  changed = [
    f'{name}: {old.get(name, absent)!r} there, {new.get(name, absent)!r} here'
    for name in sorted(old.keys() | new.keys())
    if name not in RESUMABLE and old.get(name, absent) != new.get(name, absent)
  ]
  if changed:
    raise ValueError(
      f'{workdir} holds a run with another config ({"; ".join(changed)}); '
      'choose another --workdir, or the config of that run'
    )


def write_config(config: Config, workdir: pathlib.Path) -> None:
  """Writes `workdir/config.json`."""
  write_text(workdir / 'config.json', config_json(config))
