import math

import pytest

from launch.config import check_config, flatten, write_config
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
    ('epochs', 1e300, 'up to a million'),
    ('batch_size', 0, 'from 1 to'),
    ('batch_size', 10**12, 'from 1 to 1048576'),
    ('steps_per_dispatch', -4, 'from 1 to'),
    ('log_every', 0, 'from 1 to'),
    ('log_every', 2**31, 'from 1 to 2147483647'),
    ('eval_every', -1.0, '0 for never'),
    ('eval_every', 5e-324, 'from a millionth'),
    ('checkpoint_every', 1e300, 'to a million'),
    ('max_save_failures', -1, 'from 0 to'),
    ('max_skipped_steps', -1, 'from 0 to'),
    ('optimizer.lr', 1e39, 'to 3e38'),
    ('optimizer.lr', 1e-50, 'from 1e-37'),
    ('checkpoint_every', math.nan, 'finite'),
    ('keep_checkpoints', 0, 'from 1 to'),
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


def test_more_examples_than_go_to_the_device_together_are_refused():
  config = get_config()
  config.batch_size, config.steps_per_dispatch = 2**16, 2**10
  check_config(config)
  config.steps_per_dispatch += 1
  with pytest.raises(
    ValueError, match='config.steps_per_dispatch=1025 of config'
  ):
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
    (None, 'adam', "='adam' alone .*b1 and .*b2, and no .*momentum or .*nest"),
    ('adam', 'sgd', "='sgd' alone .*momentum and .*nesterov, and no .*b1 or"),
  ],
)
def test_another_name_of_the_optimizer_says_what_goes_with_it(
  arg, name, message
):
  config = get_config(arg)
  config.optimizer.name = name
  with pytest.raises(ValueError, match=message):
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


def test_text_is_not_written_through_a_link(tmp_path):
  """As a folder from somebody else may have it."""
  victim = tmp_path / 'victim'
  victim.write_text('as it was')
  for name in ('config.json', 'config.json.part'):
    (tmp_path / name).symlink_to(victim)
  write_config(get_config(), tmp_path)
  assert victim.read_text() == 'as it was'
  assert '"epochs": 5.0' in (tmp_path / 'config.json').read_text()
