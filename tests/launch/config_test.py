import math

import pytest

from launch.config import (
  check_config,
  check_workdir,
  config_digest,
  flatten,
  write_config,
)
from tests.launch.toy_config import get_config


def test_the_toy_configs_are_fine():
  check_config(get_config())
  check_config(get_config('adam'))


@pytest.mark.parametrize(
  'field, value, allowed',
  [
    ('seed', -1, 'whole number'),
    ('epochs', 0.0, 'above 0'),
    ('epochs', math.inf, 'finite'),
    ('batch_size', 0, '1 or more'),
    ('steps_per_call', -4, '1 or more'),
    ('log_every', 0, '1 or more'),
    ('eval_every', -1.0, '0 or more'),
    ('checkpoint_every', math.nan, 'finite'),
    ('keep_checkpoints', 0, '1 or more'),
    ('optimizer.name', 'adamw', 'sgd, adam'),
    ('optimizer.lr', math.nan, 'finite'),
    ('optimizer.lr', 0.0, 'above 0'),
    ('optimizer.schedule', 'step', 'cosine, constant'),
    ('optimizer.weight_decay', -1e-4, '0 or more'),
    ('optimizer.momentum', 1.0, 'below 1'),
    ('optimizer.warmup_epochs', 5.0, 'less than config.epochs=5.0'),
  ],
)
def test_a_bad_value_is_named_with_what_is_allowed(field, value, allowed):
  config = get_config()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ValueError) as error:
    check_config(config)
  assert f'config.{field}={value!r}' in str(error.value)
  assert allowed in str(error.value)


@pytest.mark.parametrize('value', [True, 2.5, '16', None])
def test_a_size_must_be_a_whole_number(value):
  config = get_config()
  with config.ignore_type():
    config.batch_size = value
  with pytest.raises(ValueError, match='config.batch_size='):
    check_config(config)


@pytest.mark.parametrize('field', ['epochs', 'optimizer', 'optimizer.nesterov'])
def test_a_missing_field_is_named(field):
  config = get_config()
  if field.startswith('optimizer.'):
    del config.optimizer[field.partition('.')[2]]
  else:
    del config[field]
  with pytest.raises(ValueError, match=f'config.{field}.* is missing'):
    check_config(config)


def test_a_field_of_another_optimizer_is_refused():
  config = get_config('adam')
  config.optimizer.momentum = 0.9
  with pytest.raises(ValueError, match='momentum=0.9 is not a field of adam'):
    check_config(config)


def test_nesterov_needs_momentum():
  config = get_config()
  config.optimizer.momentum = 0.0
  with pytest.raises(ValueError, match='nesterov'):
    check_config(config)


def test_flatten():
  assert flatten({'a': 1, 'b': {'c': 2, 'd': {'e': 3}}}) == {
    'a': 1,
    'b.c': 2,
    'b.d.e': 3,
  }


def test_another_config_is_refused_and_the_difference_is_named(tmp_path):
  config = get_config()
  write_config(config, tmp_path)
  check_workdir(config, tmp_path)
  config.optimizer.lr = 0.2
  config.seed = 5
  with pytest.raises(ValueError) as error:
    check_workdir(config, tmp_path)
  assert 'optimizer.lr: 0.1 there, 0.2 here' in str(error.value)
  assert 'seed: 0 there, 5 here' in str(error.value)


@pytest.mark.parametrize(
  'field, value',
  [
    ('log_every', 99),
    ('keep_checkpoints', 9),
    ('tensorboard', True),
    ('data.dir', '/elsewhere'),
  ],
)
def test_what_leaves_the_numbers_alone_may_change(tmp_path, field, value):
  config = get_config()
  write_config(config, tmp_path)
  digest = config_digest(config)
  config.update_from_flattened_dict({field: value})
  check_workdir(config, tmp_path)
  assert config_digest(config) == digest
