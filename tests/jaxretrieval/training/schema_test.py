"""Every field of a retrieval config, with values that are not allowed."""

import math

import pytest
from ml_collections import ConfigDict

from configs import common
from configs.retrieval_quickstart import get_config
from jaxretrieval import task
from launch.config import check_config, flatten
from tests.jaxretrieval import made_up
from tests.task_config import begin, with_field

NOT_STRING = [None, 3, ('a',), 'a\0b']
NOT_BOOLEAN = [None, 1, 'yes']
NOT_COUNT = [None, -1, 1.5, True, '3', math.nan, 10**12]
NOT_NUMBER = [None, -1.0, math.nan, math.inf, '3', True, 1e300, 10**400]
NO_LIST = [None, 'en', 3, ('en', 3), ('xx',)]

BAD = {
  'model': [None, 3, {}],
  'model.hidden': [None, 3, (0, 5), (-1, 5), (2.5, 5), (5, 10**12), ('5', 5)],
  'model.dropout': [
    *(None, 0.1, (0.1,), (0.1, 0.1, 1.0), (0.1, 0.1, -0.1), ('0', 0, 0)),
    (0.1, 0.1, math.nan),
  ],
  'model.output': [*NOT_STRING, 'tanh'],
  'model.dtype': [*NOT_STRING, 'float16'],
  'model.feature_scale': [*NOT_STRING, 'std'],
  'model.center_text': NOT_BOOLEAN,
  'model.text_noise': NOT_NUMBER,
  'model.image_noise': NOT_NUMBER,
  'model.output_scale': [*NOT_STRING, 'one'],
  'model.output_bias': [*NOT_STRING, 'one'],
  'loss': [None, 'm3l', {}],
  'loss.name': [*NOT_STRING, 'clip', 'patr'],
  'loss.objective': [*NOT_STRING, 'square'],
  'loss.rho': [*NOT_NUMBER, 0.0],
  'loss.alpha1': NOT_NUMBER,
  'loss.alpha2': NOT_NUMBER,
  'loss.gamma': [1.0],
  'mining': [None, {}],
  'mining.miner': [*NOT_STRING, 'softest'],
  'mining.ranks': [None, 3, (), (0,), (5, 2), (-1, 3), (0, 2.5), (0, 10**12)],
  'mining.bank': NOT_BOOLEAN,
  'mining.exchange': [*NOT_STRING, 'mail'],
  'mining.block_size': [*NOT_COUNT, 0],
  'data': [None, {}],
  'data.name': [*NOT_STRING, 'imagenet'],
  'data.source': NOT_STRING,
  'data.dir': NOT_STRING,
  'data.text_encoder': [*NOT_STRING, 'nose'],
  'data.split': [*NOT_STRING, 'middle'],
  'data.languages': NO_LIST,
  'data.sampling': [*NOT_STRING, 'word'],
  'data.balance': [*NOT_STRING, 'word'],
  'data.train_images': [*NOT_COUNT, 7],
  'data.on_overlap': [*NOT_STRING, 'ignore'],
  'evals': [None, 3],
  'evals.test': [None, 3, {}],
  'evals.test.name': [*NOT_STRING, 'imagenet'],
  'evals.test.source': NOT_STRING,
  'evals.test.dir': NOT_STRING,
  'evals.test.text_encoder': NOT_STRING,
  'evals.test.split': [*NOT_STRING, 'middle'],
  'evals.test.languages': [*NO_LIST, ()],
}
LOSSES = {
  'patr': {'eta': [*NOT_NUMBER, 0.0], 'unit': [*NOT_STRING, 'inch']},
  'triplet': {'margin': [*NOT_NUMBER, 0.0]},
  'info_nce': {'temperature': [*NOT_NUMBER, 0.0], 'symmetric': NOT_BOOLEAN},
}


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  return str(made_up.write(tmp_path_factory.mktemp('sets')))


def make(source, **blocks):
  config = get_config()
  config.data.source = source
  config.evals.test.languages = ('en', 'de')
  return config.to_dict() | blocks


def refused(config, field):
  with pytest.raises(ValueError) as error:
    begin(task, config)
  assert str(error.value).startswith(f'config.{field}')


def test_the_config_itself_is_allowed(source):
  begin(task, ConfigDict(make(source)).lock())


def test_no_field_is_forgotten(source):
  blocks = task.SCHEMA['properties']
  fields = {f for f in flatten(make(source)) if f.partition('.')[0] in blocks}
  assert fields <= BAD.keys()


@pytest.mark.parametrize('field', BAD)
def test_a_value_that_is_not_allowed_is_refused_by_name(source, field):
  for value in BAD[field]:
    config = with_field(make(source), field, value)
    refused(config, field)


@pytest.mark.parametrize('loss', common.LOSSES)
def test_the_options_of_every_loss_are_allowed(loss):
  config = get_config(f'loss={loss}')
  check_config(config, task.SCHEMA)
  config.loss = config.loss.to_dict() | {'gamma': 1.0}
  with pytest.raises(ValueError, match=r'^config\.loss\.gamma=1\.0 '):
    check_config(config, task.SCHEMA)


@pytest.mark.parametrize('loss', LOSSES)
def test_fields_of_other_losses(source, loss):
  for field, values in LOSSES[loss].items():
    for value in values:
      whole = make(source, loss=common.loss_options(loss))
      refused(with_field(whole, f'loss.{field}', value), f'loss.{field}')


@pytest.mark.parametrize('field', flatten(get_config()))
def test_a_missing_field_is_named(field):
  whole = get_config().to_dict()
  *parents, name = field.split('.')
  block = whole
  for parent in parents:
    block = block[parent]
  del block[name]
  with pytest.raises(ValueError, match=rf'^config\.{field} '):
    check_config(ConfigDict(whole), task.SCHEMA)
