"""Every field of a retrieval config, with values that it cannot have."""

import functools
import math

import jax
import pytest
from ml_collections import ConfigDict

from configs.common import loss_options
from configs.retrieval_quickstart import get_config
from jaxretrieval import schema, task
from launch.config import check_config, flatten
from launch.mesh import make_mesh
from tests.jaxretrieval import made_up

NO_TEXT = [None, 3, ('a',), 'a\0b']
NO_SWITCH = [None, 1, 'yes']
NO_COUNT = [None, -1, 1.5, True, '3', math.nan, 10**12]
NO_NUMBER = [None, -1.0, math.nan, math.inf, '3', True, 1e300, 10**400]
NO_LIST = [None, 'en', 3, ('en', 3), ('xx',)]

BAD = {
  'model': [None, 3, {}],
  'model.hidden': [None, 3, (0, 5), (-1, 5), (2.5, 5), (5, 10**12), ('5', 5)],
  'model.dropout': [
    *(None, 0.1, (0.1,), (0.1, 0.1, 1.0), (0.1, 0.1, -0.1), ('0', 0, 0)),
    (0.1, 0.1, math.nan),
  ],
  'model.output': [*NO_TEXT, 'tanh'],
  'model.dtype': [*NO_TEXT, 'float16'],
  'model.feature_scale': [*NO_TEXT, 'std'],
  'model.center_text': NO_SWITCH,
  'model.text_noise': NO_NUMBER,
  'model.image_noise': NO_NUMBER,
  'model.output_scale': [*NO_TEXT, 'one'],
  'model.output_bias': [*NO_TEXT, 'one'],
  'loss': [None, 'm3l', {}],
  'loss.name': [*NO_TEXT, 'clip', 'patr'],
  'loss.objective': [*NO_TEXT, 'square'],
  'loss.rho': [*NO_NUMBER, 0.0],
  'loss.alpha1': NO_NUMBER,
  'loss.alpha2': NO_NUMBER,
  'loss.gamma': [1.0],
  'mining': [None, {}],
  'mining.miner': [*NO_TEXT, 'softest'],
  'mining.ranks': [None, 3, (), (0,), (5, 2), (-1, 3), (0, 2.5), (0, 10**12)],
  'mining.bank': NO_SWITCH,
  'mining.exchange': [*NO_TEXT, 'mail'],
  'mining.block_size': [*NO_COUNT, 0],
  'data': [None, {}],
  'data.name': [*NO_TEXT, 'imagenet'],
  'data.source': NO_TEXT,
  'data.dir': NO_TEXT,
  'data.text_encoder': [*NO_TEXT, 'nose'],
  'data.split': [*NO_TEXT, 'middle'],
  'data.languages': NO_LIST,
  'data.sampling': [*NO_TEXT, 'word'],
  'data.balance': [*NO_TEXT, 'word'],
  'data.train_images': [*NO_COUNT, 7],
  'data.on_overlap': [*NO_TEXT, 'ignore'],
  'evals': [None, 3],
  'evals.test': [None, 3, {}],
  'evals.test.name': [*NO_TEXT, 'imagenet'],
  'evals.test.source': NO_TEXT,
  'evals.test.dir': NO_TEXT,
  'evals.test.text_encoder': NO_TEXT,
  'evals.test.split': [*NO_TEXT, 'middle'],
  'evals.test.languages': [*NO_LIST, ()],
}
LOSSES = {
  'patr': {'eta': [*NO_NUMBER, 0.0], 'unit': [*NO_TEXT, 'inch']},
  'triplet': {'margin': [*NO_NUMBER, 0.0]},
  'info_nce': {'temperature': [*NO_NUMBER, 0.0], 'symmetric': NO_SWITCH},
}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  return str(made_up.write(tmp_path_factory.mktemp('sets')))


def make(source, **blocks):
  config = get_config()
  config.data.source = source
  config.evals.test.languages = ('en', 'de')
  return config.to_dict() | blocks


def change(whole, field, value):
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


def refused(config, field):
  with pytest.raises(ValueError) as error:
    begin(config)
  assert str(error.value).startswith(f'config.{field}')


def test_the_config_itself_is_fine(source):
  begin(ConfigDict(make(source)).lock())


def test_no_field_is_forgotten(source):
  blocks = ('model', 'loss', 'mining', 'data', 'evals')
  ours = {f for f in flatten(make(source)) if f.partition('.')[0] in blocks}
  assert ours <= BAD.keys()


@pytest.mark.parametrize('field', BAD)
def test_a_value_that_cannot_be_is_refused_by_name(source, field):
  for value in BAD[field]:
    config = change(make(source), field, value)
    # Another loss has other fields.
    shown = 'loss' if (field, value) == ('loss.name', 'patr') else field
    refused(config, shown.replace('loss.gamma', 'loss'))


@pytest.mark.parametrize('loss', LOSSES)
def test_fields_of_other_losses(source, loss):
  for field, values in LOSSES[loss].items():
    for value in values:
      whole = make(source, loss=loss_options(loss))
      refused(change(whole, f'loss.{field}', value), f'loss.{field}')


@pytest.mark.parametrize('field', schema.RULES)
def test_a_missing_field_is_named(source, field):
  whole = make(source)
  block, _, name = field.rpartition('.')
  del whole[block][name]
  refused(ConfigDict(whole).lock(), f'{field} is missing')
