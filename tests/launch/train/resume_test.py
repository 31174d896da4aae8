import json

import pytest

from launch.config import (
  RESUMABLE_FIELDS,
  SAFE_FIELDS,
  config_fingerprint,
  config_json,
  flatten,
  write_config,
)
from launch.train.resume import check_allowed, check_resume, check_workdir
from tests.launch.toy_config import get_config

# Another value for every field of the toy configs.
OTHERS = {
  'task': 'tests.launch.toy_task2',
  'seed': 1,
  'epochs': 6.0,
  'batch_size': 32,
  'virtual_devices': 2,
  'device_count_invariant': True,
  'steps_per_dispatch': 3,
  'log_every': 9,
  'eval_every': 2.0,
  'checkpoint_every': 1.0,
  'keep_checkpoints': 3,
  'max_save_failures': 0,
  'max_skipped_steps': 1,
  'tensorboard': True,
  'optimizer.name': 'lion',
  'optimizer.lr': 0.2,
  'optimizer.schedule': 'constant',
  'optimizer.warmup_epochs': 2.0,
  'optimizer.weight_decay': 0.0,
  'optimizer.momentum': 0.8,
  'optimizer.nesterov': False,
  'optimizer.b1': 0.8,
  'optimizer.b2': 0.99,
  'data.resident': False,
  'data.dir': '/elsewhere',
  'diverge_at': 9,
  'slow_evaluation': 0.1,
}


def make(arg=None, **fields):
  config = get_config(arg)
  config.update_from_flattened_dict(fields)
  return config


def as_json(config):
  return json.loads(config_json(config))


def variant(field):
  adam = field in ('optimizer.b1', 'optimizer.b2')
  return 'adam' if adam else None


def test_every_field_is_tried():
  both = flatten(get_config()).keys() | flatten(get_config('adam')).keys()
  assert OTHERS.keys() == both


@pytest.mark.parametrize('field', OTHERS)
def test_a_field_is_identity_safe_or_schedule(field):
  arg, new = variant(field), OTHERS[field]
  config = make(arg, **{field: new})
  old = as_json(get_config(arg))
  change = f'{field}: {flatten(old)[field]!r} there, {new!r} here'
  allowing = f'--allow_resume_change={field}'
  if field in SAFE_FIELDS:
    assert check_resume(old, config) == {field: f'going on with {change}'}
    return
  with pytest.raises(ValueError) as refused:
    check_resume(old, config)
  assert change in str(refused.value)
  if field in RESUMABLE_FIELDS:
    assert allowing in str(refused.value)
    assert check_resume(old, config, [field]) == {
      field: f'going on with {change}'
    }
    check_allowed(config, [field])
    return
  assert '--allow_resume_change' not in str(refused.value)
  with pytest.raises(ValueError, match='it is another run'):
    check_allowed(config, [field])
  with pytest.raises(ValueError, match='another config'):
    check_resume(old, config, [field])


def test_what_is_the_same_goes_on_in_silence():
  old = as_json(get_config())
  assert check_resume(old, get_config()) == {}
  assert check_resume(flatten(old), get_config(), ['epochs']) == {}


def test_the_examples_of_an_evaluation_may_lie_elsewhere():
  field, config = 'evals.shifted.source', get_config()
  config.evals = {'shifted': {'source': 'old/C'}}
  old, digest = as_json(config), config_fingerprint(config)
  config.update_from_flattened_dict({field: '/new/C/'})
  assert check_resume(old, config) == {
    field: f"going on with {field}: 'old/C' there, '/new/C/' here"
  }
  assert config_fingerprint(config) == digest, (
    'its checkpoints would be refused'
  )
  # Without, what is evaluated is made; and another folder is another set.
  for other in ('', '/new/D'):
    config.update_from_flattened_dict({field: other})
    with pytest.raises(ValueError, match=f"'{other}' here"):
      check_resume(old, config)
    assert config_fingerprint(config) != digest


def test_a_field_that_only_one_of_them_has_is_a_difference():
  old = as_json(get_config())
  del old['seed'], old['log_every']
  old['ancient'] = 3
  with pytest.raises(ValueError) as refused:
    check_resume(old, get_config())
  assert "ancient: 3 there, '(absent)' here" in str(refused.value)
  assert "seed: '(absent)' there, 0 here" in str(refused.value)
  assert 'log_every' not in str(refused.value)


def test_no_flag_is_offered_that_would_not_do():
  config = make(seed=1, epochs=6.0)
  with pytest.raises(ValueError) as refused:
    check_resume(as_json(get_config()), config, ['epochs'])
  assert 'seed: 0 there' in str(refused.value)
  assert '--allow' not in str(refused.value)


def test_the_flag_that_is_offered_keeps_what_was_given():
  config = make(epochs=6.0, **{'optimizer.lr': 0.2})
  with pytest.raises(ValueError) as refused:
    check_resume(as_json(get_config()), config, ['optimizer.lr'])
  assert '--allow_resume_change=epochs,optimizer.lr' in str(refused.value)


def test_momentum_cannot_begin_or_end():
  """The state of SGD without it has no buffers."""
  old = as_json(get_config())
  config = make(**{'optimizer.momentum': 0.0, 'optimizer.nesterov': False})
  allowed = ['optimizer.momentum', 'optimizer.nesterov']
  with pytest.raises(ValueError, match='momentum: 0.9 there, 0.0 here'):
    check_resume(old, config, allowed)


@pytest.mark.parametrize(
  'field, message',
  [
    ('optimizer.lrr', 'no such field'),
    ('optimizer.b1', 'no such field'),
    ('', 'no such field'),
    ('seed', 'with another seed it is another run'),
  ],
)
def test_only_a_schedule_can_be_allowed_to_change(tmp_path, field, message):
  with pytest.raises(ValueError) as error:
    check_workdir(get_config(), tmp_path, [field])
  assert f'--allow_resume_change={field}: ' in str(error.value)
  assert message in str(error.value)


def test_accepted_changes_are_told(tmp_path):
  check_workdir(get_config(), tmp_path)
  write_config(get_config(), tmp_path)
  changes = check_workdir(make(log_every=9, epochs=6.0), tmp_path, ['epochs'])
  assert changes == {
    'epochs': 'going on with epochs: 5.0 there, 6.0 here',
    'log_every': 'going on with log_every: 5 there, 9 here',
  }


@pytest.mark.parametrize(
  'content',
  [b'', b'{"seed": 0', b'\xff\xfe', b'[' * 10**5, b'{"seed": NaN}', b'null'],
)
def test_a_damaged_config_is_named(tmp_path, content):
  path = tmp_path / 'config.json'
  path.write_bytes(content)
  with pytest.raises(ValueError) as error:
    check_workdir(get_config(), tmp_path)
  assert str(path) in str(error.value)
  assert 'choose another --workdir' in str(error.value)


def test_a_config_that_cannot_be_read_is_named(tmp_path):
  (tmp_path / 'config.json').symlink_to('config.json')
  with pytest.raises(ValueError, match='config.json is not a resolved config'):
    check_workdir(get_config(), tmp_path)
