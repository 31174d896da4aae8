import json

import pytest

from launch.config import config_json, flatten
from launch.workdir.identity import (
  RESUMABLE_FIELDS,
  SAFE_FIELDS,
  check_allowed,
  check_resume,
  config_fingerprint,
  run_identity,
  shared_fields,
)
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
  change = f'{field}: {flatten(old)[field]!r} saved, {new!r} now'
  allowing = f'--allow_resume_change={field}'
  if field in SAFE_FIELDS:
    assert check_resume(old, config) == {field: f'resuming with {change}'}
    return
  with pytest.raises(ValueError) as refused:
    check_resume(old, config)
  assert change in str(refused.value)
  if field in RESUMABLE_FIELDS:
    assert allowing in str(refused.value)
    assert check_resume(old, config, [field]) == {
      field: f'resuming with {change}'
    }
    check_allowed(config, [field])
    return
  assert '--allow_resume_change' not in str(refused.value)
  with pytest.raises(ValueError, match=f'={field}: '):
    check_allowed(config, [field])
  with pytest.raises(ValueError, match=f'{field}: '):
    check_resume(old, config, [field])


def test_an_equal_config_is_no_change():
  old = as_json(get_config())
  assert check_resume(old, get_config()) == {}
  assert check_resume(flatten(old), get_config(), ['epochs']) == {}


def test_the_examples_of_an_evaluation_may_lie_elsewhere():
  field, config = 'evals.shifted.source', get_config()
  config.evals = {'shifted': {'source': 'old/C'}}
  old, fingerprint = as_json(config), config_fingerprint(config)
  config.update_from_flattened_dict({field: '/new/C/'})
  assert check_resume(old, config) == {
    field: f"resuming with {field}: 'old/C' saved, '/new/C/' now"
  }
  assert config_fingerprint(config) == fingerprint, (
    'its checkpoints would be refused'
  )
  # Without a folder the data are generated; another folder has other data.
  for other in ('', '/new/D'):
    config.update_from_flattened_dict({field: other})
    with pytest.raises(ValueError, match=f"'{other}' now"):
      check_resume(old, config)
    assert config_fingerprint(config) != fingerprint


def test_a_field_that_only_one_of_them_has_is_a_difference():
  old = as_json(get_config())
  del old['seed'], old['log_every']
  old['ancient'] = 3
  with pytest.raises(ValueError) as refused:
    check_resume(old, get_config())
  assert "ancient: 3 saved, '(absent)' now" in str(refused.value)
  assert "seed: '(absent)' saved, 0 now" in str(refused.value)
  assert 'log_every' not in str(refused.value)


def test_no_flag_is_offered_that_would_not_do():
  config = make(seed=1, epochs=6.0)
  with pytest.raises(ValueError) as refused:
    check_resume(as_json(get_config()), config, ['epochs'])
  assert 'seed: 0 saved' in str(refused.value)
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
  with pytest.raises(ValueError, match='momentum: 0.9 .*0.0'):
    check_resume(old, config, allowed)


@pytest.mark.parametrize('field', ['optimizer.lrr', 'optimizer.b1', '', 'seed'])
def test_only_a_resumable_field_can_be_allowed_to_change(field):
  with pytest.raises(ValueError) as error:
    check_allowed(get_config(), [field])
  assert f'--allow_resume_change={field}: ' in str(error.value)


@pytest.mark.parametrize('field', sorted(SAFE_FIELDS | RESUMABLE_FIELDS))
def test_the_fingerprint_is_that_of_the_identity(field):
  config = get_config('adam' if field.startswith('optimizer.b') else None)
  fingerprint = config_fingerprint(config)
  with config.unlocked(), config.ignore_type():
    config.update_from_flattened_dict({field: 7})
  assert config_fingerprint(config) == fingerprint
  config.batch_size = 7
  assert config_fingerprint(config) != fingerprint


def test_the_identity_of_a_run_names_its_data_and_threads():
  config = get_config()
  identity = run_identity(config, examples=100, data_fingerprint='abc')
  assert identity == {
    'seed': 0,
    'batch_size': 16,
    'examples': 100,
    'data': 'abc',
    'config': config_fingerprint(config),
  }
  threads = run_identity(
    config, examples=100, data_fingerprint='abc', threads=4
  )
  assert threads == identity | {'threads (NPROC)': 4}


def test_processes_share_all_but_the_location_of_data():
  config = make(**{'data.dir': '/local'})
  config.evals = {'shifted': {'source': '/local/C', 'batch_size': 8}}
  fields = shared_fields(config)
  assert fields['config.optimizer.lr'] == 0.1
  assert fields['config.evals.shifted.batch_size'] == 8
  assert '/local' not in fields.values()
  assert '/local/C' not in fields.values()
