import math

import pytest

from launch.config import check_config, flatten, write_config
from tests.launch.toy_config import get_config


def test_the_toy_configs_are_allowed():
  check_config(get_config())
  check_config(get_config('adam'))


@pytest.mark.parametrize(
  'field, value',
  [
    ('seed', -1),
    ('epochs', 0.0),
    ('epochs', math.inf),
    ('epochs', 1e300),
    ('batch_size', 0),
    ('batch_size', 10**12),
    ('steps_per_dispatch', -4),
    ('log_every', 0),
    ('log_every', 2**31),
    ('eval_every', -1.0),
    ('eval_every', 5e-324),
    ('checkpoint_every', 1e300),
    ('max_save_failures', -1),
    ('max_skipped_steps', -1),
    ('optimizer.lr', 1e39),
    ('optimizer.lr', 1e-50),
    ('checkpoint_every', math.nan),
    ('keep_checkpoints', 0),
    ('optimizer.name', 'adamw'),
    ('optimizer.lr', math.nan),
    ('optimizer.lr', 0.0),
    ('optimizer.schedule', 'step'),
    ('optimizer.weight_decay', -1e-4),
    ('optimizer.momentum', 1.0),
    ('optimizer.warmup_epochs', 5.0),
  ],
)
def test_a_value_that_is_not_allowed_is_named(field, value):
  config = get_config()
  config.update_from_flattened_dict({field: value})
  with pytest.raises(ValueError) as error:
    check_config(config)
  assert f'config.{field}={value!r}' in str(error.value)


@pytest.mark.parametrize('value', [True, 2.5, '16', None])
def test_a_size_must_be_a_whole_number(value):
  config = get_config()
  with config.ignore_type():
    config.batch_size = value
  with pytest.raises(ValueError, match='config.batch_size='):
    check_config(config)


def test_a_chunk_of_too_many_examples_is_refused():
  config = get_config()
  config.batch_size, config.steps_per_dispatch = 2**16, 2**10
  check_config(config)
  config.steps_per_dispatch += 1
  with pytest.raises(ValueError, match='^config.steps_per_dispatch=1025'):
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


@pytest.mark.parametrize(
  'arg, name, message',
  [
    (None, 'adam', "name='adam' .*b1.*b2.*momentum.*nesterov"),
    ('adam', 'sgd', "name='sgd' .*momentum.*nesterov.*b1.*b2"),
  ],
)
def test_another_name_of_the_optimizer_needs_its_fields(arg, name, message):
  config = get_config(arg)
  config.optimizer.name = name
  with pytest.raises(ValueError, match=message):
    check_config(config)


def test_a_field_of_another_optimizer_is_refused():
  config = get_config('adam')
  config.optimizer.momentum = 0.9
  with pytest.raises(ValueError, match=r'^config\.optimizer\.momentum=0.9'):
    check_config(config)


def test_nesterov_needs_momentum():
  config = get_config()
  config.optimizer.momentum = 0.0
  with pytest.raises(ValueError, match='nesterov'):
    check_config(config)


def test_a_task_without_a_schema_checks_its_own_fields():
  config = get_config()
  config.note = 'x'
  check_config(config)


BLOCK = {
  'type': 'object',
  'properties': {
    'data': {'type': 'object', 'additionalProperties': {'type': 'boolean'}},
    'diverge_at': {'type': 'integer'},
    'slow_evaluation': {'type': 'number'},
  },
}


def test_the_fields_of_a_task_are_checked_by_its_schema():
  config = get_config()
  with config.unlocked(), config.ignore_type():
    config.data = {'resident': True}
    check_config(config, BLOCK)
    config.data = {'resident': True, 'dir': 'x'}
  with pytest.raises(ValueError, match="^config.data.dir='x'"):
    check_config(config, BLOCK)
  del config['data'], config['diverge_at']
  with pytest.raises(ValueError, match='^config.data '):
    check_config(config, BLOCK)
  config.data, config.diverge_at, config.note = {}, 0, 'x'
  with pytest.raises(ValueError, match="^config.note='x'"):
    check_config(config, BLOCK)


def test_flatten():
  assert flatten({'a': 1, 'b': {'c': 2, 'd': {'e': 3}}}) == {
    'a': 1,
    'b.c': 2,
    'b.d.e': 3,
  }


def test_text_is_not_written_through_a_link(tmp_path):
  """As a folder from somebody else may have it."""
  victim = tmp_path / 'victim'
  victim.write_text('as it was')
  for name in ('config.json', 'config.json.part'):
    (tmp_path / name).symlink_to(victim)
  write_config(get_config(), tmp_path)
  assert victim.read_text() == 'as it was'
  assert '"epochs": 5.0' in (tmp_path / 'config.json').read_text()
