"""The schema of a classification config: the fields that the task reads.

Plain data in the vocabulary of JSON Schema, which `launch.schema` describes and
checks. `launch.config.SCHEMA` has the fields of the training framework.
"""

from collections.abc import Mapping
from typing import Any

from jaxmix.classification import mixing
from jaxmix.classification.datasets.specs import DATASETS, DatasetSpec
from jaxmix.classification.evaluators import EVALUATORS

_BOOLEAN = {'type': 'boolean'}
_STRING = {'type': 'string'}
_FRACTION = {'type': 'number', 'minimum': 0, 'maximum': 1}
_EXAMPLES = {'type': 'integer', 'minimum': 0, 'maximum': 2**31 - 1}
_SIZE = {'type': 'integer', 'minimum': 1, 'maximum': 2048}  # of a network

_FAMILIES = {
  'preact_resnet18': {'width': _SIZE, 'stem_stride': _SIZE},
  'resnet50': {'width': _SIZE},
  'wide_resnet': {
    'depth': _SIZE | {'minimum': 10, 'description': '6n + 4'},
    'width': _SIZE,
    'stem_stride': _SIZE,
  },
}


def _augment(spec: DatasetSpec) -> dict[str, Any]:
  """Returns the properties of `config.augment` for a data set."""
  # A larger padding or hole could leave a blank image.
  below_side = {
    'type': 'integer',
    'minimum': 0,
    'maximum': min(spec.image_shape[:2]) - 1,
  }
  cutout = below_side | {
    'description': 'side of the square, in pixels; 0: no Cutout'
  }
  if spec.sample_rate:
    return {
      'cutout': cutout,
      'shift': _FRACTION | {'description': 'seconds, at most, to either side'},
      'speed': {
        'type': 'number',
        'minimum': 0,
        'maximum': 0.9,
        'description': 'relative change, at most',
      },
      'noise': _FRACTION | {'description': 'amplitude, at most'},
    }
  pad = below_side | {
    'description': 'pixels on each side before a random crop; 0: no crop'
  }
  if spec.is_jpeg:  # cropped as they are read
    pad['maximum'] = 0
  return {'pad': pad, 'flip': _BOOLEAN, 'cutout': cutout}


def _evaluators(spec: DatasetSpec) -> dict[str, Any]:
  """Returns the properties of `config.evals` for a data set."""
  options = {name: evaluator.schema for name, evaluator in EVALUATORS.items()}
  if spec.sample_rate or spec.is_jpeg:
    options = {'clean': options['clean']}
  if spec.validation_examples:
    options['validation'] = options['clean']
  batch_size = {'type': 'integer', 'minimum': 1, 'maximum': 2**20}
  return {
    name: {'type': 'object', 'properties': {'batch_size': batch_size, **fields}}
    for name, fields in options.items()
  }


def _block(
  properties: Mapping[str, Any], path: str, variants: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns a block with further properties by the value of another field."""
  return {
    'type': 'object',
    'properties': properties,
    'discriminator': {
      'path': path,
      'mapping': {name: {'properties': x} for name, x in variants.items()},
    },
  }


_DATA = {
  'name': _STRING | {'enum': list(DATASETS)},
  'source': _STRING | {'description': "the publisher's archive or folder"},
  'dir': _STRING | {'description': 'where prepared data sets are'},
  'download': _BOOLEAN,
  'feed': _STRING | {'enum': ['resident', 'streamed']},
  'train_examples': _EXAMPLES | {'description': 'of a subset; 0: all'},
  'test_examples': _EXAMPLES | {'description': 'of a subset; 0: all'},
}
_WORKERS = {
  'type': 'integer',
  'minimum': 0,
  'maximum': 2**10,
  'description': 'threads that read and decode; 0: one for each core',
}

SCHEMA: Mapping[str, Any] = {
  'type': 'object',
  'properties': {
    'label_smoothing': {
      'type': 'number',
      'minimum': 0,
      'exclusiveMaximum': 1,
    },
    'batch_norm': _STRING | {'enum': ['global', 'ghost']},
    'model': _block(
      {
        'name': _STRING | {'enum': list(_FAMILIES)},
        'dtype': _STRING | {'enum': ['bfloat16', 'float32']},
      },
      'model.name',
      _FAMILIES,
    ),
    'augment': _block(
      {},
      'data.name',
      {name: _augment(spec) for name, spec in DATASETS.items()},
    ),
    'mix': _block(
      {
        'name': _STRING
        | {
          'enum': list(mixing.METHODS),
          'description': 'a single mode, such as cutmix, is the config '
          'argument :method=cutmix, or random_mix with '
          "config.mix.candidates=('cutmix',) and config.mix.weights=(1.0,)",
        }
      },
      'mix.name',
      {name: method.schema for name, method in mixing.METHODS.items()},
    ),
    'data': _block(
      _DATA,
      'data.name',
      {
        name: {'workers': _WORKERS} if spec.is_jpeg else {}
        for name, spec in DATASETS.items()
      },
    ),
    'evals': {
      'type': 'object',
      'discriminator': {
        'path': 'data.name',
        'mapping': {
          name: {'properties': _evaluators(spec), 'required': []}
          for name, spec in DATASETS.items()
        },
      },
    },
  },
}
