"""The schema of a retrieval config: the fields that the task reads.

Plain data in the vocabulary of JSON Schema, which `launch.schema` describes and
checks. `launch.config.SCHEMA` has the fields of the training
framework.
"""

from collections.abc import Mapping
from typing import Any

from jaxretrieval import mining
from jaxretrieval.feature_sets import locate
from jaxretrieval.training import objective, text_head

_BOOLEAN = {'type': 'boolean'}
_STRING = {'type': 'string'}
_NOT_NEGATIVE = {'type': 'number', 'minimum': 0, 'maximum': 1e6}
_LENGTH = {
  'type': 'number',
  'minimum': 1e-9,
  'maximum': 1e9,
  'description': 'a squared length, in the unit that the block names',
}
_MAX_COUNT = 2**31 - 1
_LANGUAGES = {'type': 'array', 'items': _STRING}
_UNIT = _STRING | {
  'enum': ['mean_square', 'raw'],
  'description': "'mean_square': the mean squared norm of the training images",
}


def _loss_fields(loss: objective.Loss) -> dict[str, Any]:
  lengths = dict.fromkeys(loss.lengths, _LENGTH)
  return {**loss.options, **lengths, **({'unit': _UNIT} if lengths else {})}


_LOSSES = {
  name: {'properties': _loss_fields(loss)}
  for name, loss in objective.LOSSES.items()
}
_FEATURE_SETS = [*locate.MODULES, 'features']
_MODEL = {
  'hidden': {
    'type': 'array',
    'items': {'type': 'integer', 'minimum': 1, 'maximum': 2**16},
    'description': 'widths of the hidden layers',
  },
  'dropout': {
    'type': 'array',
    'items': {'type': 'number', 'minimum': 0, 'exclusiveMaximum': 1},
    'description': 'a rate for each layer, the last one included',
  },
  'output': _STRING | {'enum': [*text_head.OUTPUTS]},
  'dtype': _STRING | {'enum': [*text_head.DTYPES]},
  'feature_scale': _STRING | {'enum': [*text_head.FEATURE_SCALES]},
  'center_text': _BOOLEAN,
  'text_noise': _NOT_NEGATIVE
  | {'description': 'length of the noise, relative to that of the features'},
  'image_noise': _NOT_NEGATIVE
  | {'description': 'length of the noise, relative to that of the features'},
  'output_scale': _STRING | {'enum': [*text_head.OUTPUT_SCALES]},
  'output_bias': _STRING | {'enum': [*text_head.OUTPUT_BIASES]},
}
_MINING = {
  'miner': _STRING | {'enum': [*mining.MINERS]},
  'ranks': {
    'type': 'array',
    'items': {'type': 'integer', 'minimum': 0, 'maximum': _MAX_COUNT},
    'minItems': 2,
    'maxItems': 2,
    'description': 'first and last',
  },
  'bank': _BOOLEAN
  | {'description': 'negatives from the whole training set, not the batch'},
  'exchange': _STRING | {'enum': [*objective.EXCHANGES]},
  'block_size': {'type': 'integer', 'minimum': 1, 'maximum': 2**20},
}
_DATA = {
  'name': _STRING | {'enum': _FEATURE_SETS},
  'source': _STRING,
  'dir': _STRING | {'description': 'where prepared feature sets are'},
  'text_encoder': _STRING | {'description': 'how its id begins; empty: any'},
  'split': _STRING,
  'languages': _LANGUAGES | {'description': 'language codes; empty: all'},
  'sampling': _STRING | {'enum': ['image', 'caption']},
  'balance': _STRING | {'enum': ['caption', 'language']},
  'train_images': {
    'type': 'integer',
    'minimum': 0,
    'maximum': _MAX_COUNT,
    'description': 'of a subset; 0: all',
  },
  'on_overlap': _STRING | {'enum': ['refuse', 'drop']},
}
_EVALUATION = {
  'name': _STRING
  | {
    'enum': ['', *_FEATURE_SETS],
    'description': 'empty: the set that is trained on',
  },
  'source': _STRING,
  'dir': _STRING,
  'text_encoder': _STRING,
  'split': _STRING,
  'languages': _LANGUAGES | {'minItems': 1},
}

SCHEMA: Mapping[str, Any] = {
  'type': 'object',
  'properties': {
    'model': {'type': 'object', 'properties': _MODEL},
    'loss': {
      'type': 'object',
      'properties': {'name': _STRING | {'enum': list(_LOSSES)}},
      'discriminator': {
        'path': 'loss.name',
        'mapping': _LOSSES,
      },
    },
    'mining': {'type': 'object', 'properties': _MINING},
    'data': {'type': 'object', 'properties': _DATA},
    'evals': {
      'type': 'object',
      'additionalProperties': {'type': 'object', 'properties': _EVALUATION},
    },
  },
}
