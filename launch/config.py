"""The config of a run: its schema, its check, and its JSON form."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxmix.files.atomic import write_text
from launch import schema

# A ConfigDict. Its fields are known once `check_config` has passed, but to no
# type checker.
Config = Any


_BOOLEAN = {'type': 'boolean'}
_SIZE = {'type': 'integer', 'minimum': 1, 'maximum': 2**20}
_MAX_COUNT = 2**31 - 1  # of what is counted on the devices, as int32
_FROM_0 = {'type': 'integer', 'minimum': 0, 'maximum': _MAX_COUNT}
_FROM_1 = {'type': 'integer', 'minimum': 1, 'maximum': _MAX_COUNT}
_NOT_NEGATIVE = {'type': 'number', 'minimum': 0, 'maximum': schema.FLOAT32_MAX}
_DECAY = {'type': 'number', 'minimum': 0, 'exclusiveMaximum': 1}
_INTERVAL = {
  'anyOf': [
    {'type': 'number', 'enum': [0]},
    # Steps are divided by it.
    {'type': 'number', 'minimum': 1e-6, 'maximum': 1e6},
  ],
}

# The fields that the framework reads. Those of a task are in its own SCHEMA.
SCHEMA = {
  'type': 'object',
  'properties': {
    'task': {
      'type': 'string',
      'pattern': r'[^\W\d]\w*(\.[^\W\d]\w*)*',
      'description': 'the import path of a module',
    },
    'seed': _FROM_0 | {'description': 'of everything that is random'},
    'epochs': {
      'type': 'number',
      'exclusiveMinimum': 0,
      'maximum': 1e6,
      'description': 'length of the run; may be a fraction',
    },
    'batch_size': _SIZE | {'description': 'examples of a step'},
    'virtual_devices': _SIZE
    | {
      'description': 'equal parts that a batch is split into, each of which '
      'is mixed by itself; divides batch_size'
    },
    'device_count_invariant': _BOOLEAN
    | {'description': 'bitwise-identical results on any number of devices'},
    'steps_per_dispatch': _SIZE
    | {'description': 'steps that the device takes without the host'},
    'log_every': _FROM_1 | {'description': 'steps'},
    'eval_every': _INTERVAL | {'description': 'epochs; 0: only at the end'},
    'checkpoint_every': _INTERVAL
    | {'description': 'epochs; 0: only at the end'},
    'keep_checkpoints': _FROM_1,
    'max_save_failures': _FROM_0
    | {'description': 'failed saves in a row before the run ends'},
    'max_skipped_steps': _FROM_0
    | {'description': 'steps with a gradient that is not finite'},
    'tensorboard': _BOOLEAN,
    'optimizer': {
      'type': 'object',
      'properties': {
        'name': {'type': 'string', 'enum': ['sgd', 'adam']},
        'lr': {
          'type': 'number',
          'minimum': schema.FLOAT32_MIN,
          'maximum': schema.FLOAT32_MAX,
        },
        'schedule': {'type': 'string', 'enum': ['cosine', 'constant']},
        'warmup_epochs': _NOT_NEGATIVE,
        'weight_decay': _NOT_NEGATIVE,
      },
      'discriminator': {
        'path': 'optimizer.name',
        'mapping': {
          'sgd': {'properties': {'momentum': _DECAY, 'nesterov': _BOOLEAN}},
          'adam': {'properties': {'b1': _DECAY, 'b2': _DECAY}},
        },
      },
    },
  },
}
# Examples of a chunk: the indices of 32 chunks are one int32 array.
_MAX_CHUNK = 2**26


def check_config(
  config: Config, task_schema: Mapping[str, Any] | None = None
) -> None:
  """Checks every field of a config, before any data is read.

  Args:
    config: the config.
    task_schema: the fields that the task reads, in the vocabulary of
      `launch.schema`. None: only the fields of the framework are checked, and
      others are the task's to check.

  Raises:
    ValueError: a field is missing, unknown or has a value that is not allowed;
      the message names the field, its value and what is allowed.
  """
  properties = SCHEMA['properties']
  if task_schema is None:
    own = {name: config[name] for name in properties if name in config}
    schema.check(own, SCHEMA)
  else:
    fields = {**properties, **task_schema['properties']}
    schema.check(config, {**task_schema, 'properties': fields})
  batch_size, epochs = config['batch_size'], config['epochs']
  chunk = config['steps_per_dispatch'] * batch_size
  if chunk > _MAX_CHUNK:
    raise ValueError(
      f'config.steps_per_dispatch={config["steps_per_dispatch"]} with '
      f'config.batch_size={batch_size} sends {chunk} examples to the device in '
      f'one dispatch; at most {_MAX_CHUNK} are allowed: lower one of the two'
    )
  if batch_size % config['virtual_devices']:
    raise ValueError(
      f'config.batch_size={batch_size} must be a multiple of '
      f'config.virtual_devices={config["virtual_devices"]}'
    )
  optimizer = config['optimizer']
  if optimizer['warmup_epochs'] >= epochs:
    raise ValueError(
      f'config.optimizer.warmup_epochs={optimizer["warmup_epochs"]} must be '
      f'less than config.epochs={epochs}'
    )
  if optimizer.get('nesterov') and not optimizer['momentum']:
    raise ValueError(
      'config.optimizer.nesterov=True needs config.optimizer.momentum above 0'
    )


def flatten(config: Config | Mapping[str, Any]) -> dict[str, Any]:
  """Returns the leaves of a config by dotted path: `{'optimizer.lr': 0.1}`."""
  flat = {}
  for name, value in config.items():
    # A dict or a ConfigDict, which is not a Mapping. ml_collections is not
    # imported, because a machine for benchmarks may lack it.
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
