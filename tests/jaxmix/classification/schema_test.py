"""Every field of a classification config, with values that are not allowed."""

import math

import jax
import pytest
from ml_collections import ConfigDict

from configs.quickstart import get_config
from jaxmix.classification import mixing, task
from launch.config import check_config, flatten
from launch.mesh import make_mesh
from tests.task_config import begin, with_field

NOT_STRING = [None, 3, ('a',), 'a\0b']
NOT_BOOLEAN = [None, 1, 'yes']
NOT_COUNT = [None, -1, 1.5, True, '3', math.nan, 10**12]
NOT_NUMBER = [None, -1.0, math.nan, math.inf, '3', True, 1e300, 10**400]

BAD = {
  'label_smoothing': [*NOT_NUMBER, 1.0, -0.1],
  'batch_norm': [*NOT_STRING, 'local'],
  'model': [None, 3, 'wide_resnet', {}],
  'model.name': [*NOT_STRING, 'vgg'],
  'model.dtype': [*NOT_STRING, 'float16'],
  'model.depth': [*NOT_COUNT, 0, 4, 11],
  'model.width': [*NOT_COUNT, 0],
  'model.stem_stride': [*NOT_COUNT, 0],
  'model.heads': [3],
  'augment': [None, {}],
  'augment.pad': [*NOT_COUNT, 8],
  'augment.flip': NOT_BOOLEAN,
  'augment.cutout': [*NOT_COUNT, 8],
  'mix': [None, {}],
  'mix.name': [*NOT_STRING, 'blur'],
  'mix.candidates': [None, (), 'mixup', ('blur',), (3, None)],
  'mix.weights': [
    *(None, (), 1.0, (1.0,), (0, 0, 0, 0), (1, 1, 1, -1), (1, 1, 1, 'x')),
    *((1, 1, 1, math.nan), (1, 1, 1, math.inf)),
  ],
  'mix.alpha': [None, math.nan, 0.0, {'blur': 1.0}],
  'mix.alpha.mixup': [*NOT_NUMBER, 0.0],
  'mix.alpha.fmix': [*NOT_NUMBER, 0.0],
  'mix.scale': [None, 0.5, (0.1,), (0.8, 0.1), (0.1, math.nan), (0.1, 2.0)],
  'mix.method': [*NOT_STRING, 'lanczos'],
  'mix.spectrum': [*NOT_STRING, 'pink'],
  'mix.decay_power': NOT_NUMBER,
  'mix.max_soft': [*NOT_NUMBER, 0.6],
  'mix.pairing': [*NOT_STRING, 'nearest'],
  'mix.granularity': [*NOT_STRING, 'pixel'],
  'mix.other': [1],
  'data': [None, 'digits', {}],
  'data.name': [*NOT_STRING, 'mnist'],
  # The digits have neither.
  'data.source': [*NOT_STRING, 'x'],
  'data.dir': [*NOT_STRING, 'x'],
  'data.download': [*NOT_BOOLEAN, True],
  'data.feed': [*NOT_STRING, 'mailed'],
  'data.train_examples': [*NOT_COUNT, 1438],
  'data.test_examples': [*NOT_COUNT, 361],
  'data.workers': NOT_COUNT,
  'evals': [None, 3],
  'evals.clean': [None, 3, {}],
  'evals.clean.batch_size': [*NOT_COUNT, 0],
  'evals.clean.epsilon': [0.1],
  'evals.fgsm': [{'batch_size': 100}],
  'evals.fgsm.epsilon': [*NOT_NUMBER, 1.1],
  'evals.corruption': [{'batch_size': 100, 'source': ''}],
  'evals.corruption.source': NOT_STRING,
  'evals.occlusion.side': [*NOT_NUMBER, 1.1],
}


FIELDS = list(flatten(get_config()))


def changed(field, value):
  whole = get_config().to_dict()
  if field.count('.') == 2 and field.startswith('evals.'):
    name = field.split('.')[1]
    whole['evals'].setdefault(name, {'batch_size': 360})
  return with_field(whole, field, value)


def test_the_config_itself_is_allowed():
  begin(task, get_config())


def test_no_field_is_forgotten():
  blocks = task.SCHEMA['properties']
  fields = {f for f in FIELDS if f.partition('.')[0] in blocks}
  assert fields - {'mix.alpha.cutmix'} <= BAD.keys()


@pytest.mark.parametrize('field', BAD)
def test_a_value_that_is_not_allowed_is_refused_by_name(field):
  for value in BAD[field]:
    with pytest.raises(ValueError) as error:
      begin(task, changed(field, value))
    assert str(error.value).startswith(f'config.{field}'), value


# A mode without its own alpha has that of `jaxmix.draw_random_mix`.
@pytest.mark.parametrize('field', [f for f in FIELDS if 'mix.alpha' not in f])
def test_a_missing_field_is_named(field):
  fields = get_config().to_dict()
  *parents, name = field.split('.')
  block = fields
  for parent in parents:
    block = block[parent]
  del block[name]
  with pytest.raises(ValueError, match=rf'^config\.{field} '):
    check_config(ConfigDict(fields), task.SCHEMA)


@pytest.mark.parametrize(
  'field, name, fields',
  [
    ('mix.name', 'co_mixup', 'mix.* sweeps.* candidates'),
    ('data.name', 'fsdd', 'augment.* noise.* pad'),
  ],
)
def test_a_name_without_its_fields_is_refused(field, name, fields):
  config = changed(field, name)
  with pytest.raises(ValueError, match=f'config.{field}.*{name}.*{fields}'):
    check_config(config, task.SCHEMA)


def test_fields_of_another_network_are_refused_by_name():
  config = changed('model.name', 'resnet50')
  with pytest.raises(ValueError, match='model.depth=10 .*stem_stride'):
    check_config(config, task.SCHEMA)


def test_a_single_mode_is_not_a_method_but_its_argument_is_named():
  with pytest.raises(ValueError, match=':method=cutmix'):
    check_config(changed('mix.name', 'cutmix'), task.SCHEMA)


@pytest.mark.parametrize('field', ['note', 'data.note', 'mix.alpha.resizemix'])
def test_an_unknown_field_is_refused(field):
  with pytest.raises(ValueError, match=rf'^config\.{field}='):
    check_config(changed(field, 1.0), task.SCHEMA)


@pytest.mark.parametrize(
  'name, method', mixing.METHODS.items(), ids=list(mixing.METHODS)
)
def test_the_library_knows_every_choice_of_a_method(name, method):
  """What the schema offers, jaxmix does not refuse."""
  method_of = {'patchup': 'patchup_hard'}
  for field, schema in method.schema.items():
    for value in schema.get('enum', ()):
      config = get_config(f'method={method_of.get(name, name)}')
      config.mix[field] = value
      task.make_loss(config, make_mesh(jax.devices()[:1]))
