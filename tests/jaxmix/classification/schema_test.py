"""Every field of a classification config, with values that it cannot have."""

import functools
import math

import jax
import pytest
from ml_collections import ConfigDict

from configs.quickstart import get_config
from jaxmix.classification import schema, task
from launch.config import check_config, flatten
from launch.mesh import make_mesh

NO_TEXT = [None, 3, ('a',), 'a\0b']
NO_SWITCH = [None, 1, 'yes']
NO_COUNT = [None, -1, 1.5, True, '3', math.nan, 10**12]
NO_NUMBER = [None, -1.0, math.nan, math.inf, '3', True, 1e300, 10**400]

BAD = {
  'label_smoothing': [*NO_NUMBER, 1.0, -0.1],
  'batch_norm': [*NO_TEXT, 'local'],
  'model': [None, 3, 'wide_resnet', {}],
  'model.name': [*NO_TEXT, 'vgg'],
  'model.dtype': [*NO_TEXT, 'float16'],
  'model.depth': [*NO_COUNT, 0, 4, 11],
  'model.width': [*NO_COUNT, 0],
  'model.stem_stride': [*NO_COUNT, 0],
  'model.heads': [3],
  'augment': [None, {}],
  'augment.pad': [*NO_COUNT, 8],
  'augment.flip': NO_SWITCH,
  'augment.cutout': NO_COUNT,
  'mix': [None, {}],
  'mix.name': [*NO_TEXT, 'blur'],
  'mix.candidates': [None, (), 'mixup', ('blur',), (3, None)],
  'mix.weights': [
    *(None, (), 1.0, (1.0,), (0, 0, 0, 0), (1, 1, 1, -1), (1, 1, 1, 'x')),
    *((1, 1, 1, math.nan), (1, 1, 1, math.inf)),
  ],
  'mix.alpha': [None, math.nan, 0.0, {'blur': 1.0}],
  'mix.alpha.mixup': [*NO_NUMBER, 0.0],
  'mix.alpha.fmix': [*NO_NUMBER, 0.0],
  'mix.scale': [None, 0.5, (0.1,), (0.8, 0.1), (0.1, math.nan), (0.1, 2.0)],
  'mix.method': [*NO_TEXT, 'lanczos'],
  'mix.spectrum': [*NO_TEXT, 'pink'],
  'mix.decay_power': NO_NUMBER,
  'mix.max_soft': [*NO_NUMBER, 0.6],
  'mix.pairing': [*NO_TEXT, 'nearest'],
  'mix.granularity': [*NO_TEXT, 'pixel'],
  'mix.other': [1],
  'data': [None, 'digits', {}],
  'data.name': [*NO_TEXT, 'mnist'],
  'data.source': NO_TEXT,
  'data.dir': NO_TEXT,
  'data.download': NO_SWITCH,
  'data.feed': [*NO_TEXT, 'mailed'],
  'data.train_examples': [*NO_COUNT, 1438],
  'data.test_examples': [*NO_COUNT, 361],
  'data.workers': NO_COUNT,
  'evals': [None, 3],
  'evals.clean': [None, 3, {}],
  'evals.clean.batch_size': [*NO_COUNT, 0],
  'evals.clean.epsilon': [0.1],
  'evals.fgsm': [{'batch_size': 100}],
  'evals.fgsm.epsilon': [*NO_NUMBER, 1.1],
  'evals.corruption': [{'batch_size': 100, 'source': ''}],
  'evals.corruption.source': NO_TEXT,
  'evals.occlusion.side': [*NO_NUMBER, 1.1],
}


def changed(field, value):
  whole = get_config().to_dict()
  if field.count('.') == 2 and field.startswith('evals.'):
    name = field.split('.')[1]
    whole['evals'].setdefault(name, {'batch_size': 360})
  block = whole
  *parents, name = field.split('.')
  for parent in parents:
    block = block[parent]
  block[name] = value
  return ConfigDict(whole).lock()


def begin(config):
  """What happens before the first step, less what takes long."""
  check_config(config)
  mesh = make_mesh()
  task.train_data(config)
  task.make_loss(config, mesh)
  task.make_evaluators(config, mesh)
  jax.eval_shape(functools.partial(task.init, config), jax.random.key(0))


def test_the_config_itself_is_fine():
  begin(get_config())


def test_no_field_is_forgotten():
  theirs = {'optimizer', 'task', 'seed', 'epochs', 'batch_size', 'tensorboard'}
  theirs |= {'virtual_devices', 'device_count_invariant'}
  ours = {
    field
    for field in flatten(get_config())
    if field.partition('.')[0] not in theirs
    and not field.endswith(('_every', '_checkpoints', '_failures', '_steps'))
    and field != 'steps_per_dispatch'
  }
  assert ours - {'mix.alpha.cutmix'} <= BAD.keys()


@pytest.mark.parametrize('field', BAD)
def test_a_value_that_cannot_be_is_refused_by_name(field):
  for value in BAD[field]:
    with pytest.raises(ValueError) as error:
      begin(changed(field, value))
    assert str(error.value).startswith(f'config.{field}'), value


@pytest.mark.parametrize('field', schema.RULES)
def test_a_missing_field_is_named(field):
  config = get_config()
  with config.unlocked():
    block, _, name = field.rpartition('.')
    del (config[block] if block else config)[name]
  with pytest.raises(ValueError, match=f'config.{field} is missing'):
    task.train_data(config)
