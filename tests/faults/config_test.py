"""R7: a run is resumed with every field of its config changed, one by one."""

import shutil
import signal

import pytest

from configs import quickstart
from launch.config import flatten, write_config
from launch.shell.exit_codes import ExitCode
from launch.train.resume import check_workdir
from launch.workdir.identity import RESUMABLE_FIELDS, SAFE_FIELDS
from tests.faults import trainer
from tests.launch.toy_config import get_config
from tests.launch.workdir.identity_test import OTHERS

# The others belong to Adam.
TOY = [field for field in OTHERS if field in flatten(get_config())]
# One of each kind, in `make test`.
FEW = ['seed', 'log_every', 'optimizer.lr']
SLOW = {'slow_evaluation': 0.1}
# Refused sooner: there is no such module, and no such optimizer.
SOONER = {'task', 'optimizer.name'}


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
  """A run that was stopped with something to go on from."""
  workdir = tmp_path_factory.mktemp('stopped') / 'W'
  process = trainer.start(workdir, SLOW)
  trainer.wait_for_step(process, workdir, 8)
  process.send_signal(signal.SIGTERM)
  done = trainer.wait(process)
  assert done.code == 128 + signal.SIGTERM, done.err
  return workdir


@pytest.mark.parametrize('field', TOY if trainer.FULL else FEW)
def test_a_field_that_differs_when_a_run_goes_on(stopped, tmp_path, field):
  workdir = tmp_path / 'W'
  shutil.copytree(stopped, workdir)
  before = {p: p.read_bytes() for p in workdir.rglob('*') if p.is_file()}
  fields = SLOW | {field: OTHERS[field]}
  if field == 'slow_evaluation':
    fields[field] = 0.2
  done = trainer.train(workdir, fields)
  said = f'{field}: '
  if field not in SAFE_FIELDS:
    trainer.refused(
      done, ExitCode.CONFIG, field, *[said][: field not in SOONER]
    )
    after = {p: p.read_bytes() for p in workdir.rglob('*') if p.is_file()}
    assert after == before, 'a refused run was touched'
    flag = f'--allow_resume_change={field}'
    assert (flag in done.reason) == (field in RESUMABLE_FIELDS)
    done = trainer.train(workdir, fields, flag)
    if field not in RESUMABLE_FIELDS:
      trainer.refused(done, ExitCode.CONFIG)
      return
  assert done.code == 0, done.err
  assert f'resuming with {said}' in done.err and 'test/accuracy' in done.out
  # From now on it is the config of the run.
  done = trainer.train(workdir, fields)
  assert done.code == 0 and 'resuming with' not in done.err, done.err


QUICKSTART = flatten(quickstart.get_config())


def other(value):
  """Another value of the same type."""
  if isinstance(value, bool):
    return not value
  if isinstance(value, tuple):
    return (*value, *value) if value else ('x',)
  if isinstance(value, str):
    return f'{value}x'
  return value + 1


@pytest.mark.parametrize('field', QUICKSTART)
def test_a_field_of_a_real_config_that_differs(tmp_path, field):
  write_config(quickstart.get_config(), tmp_path)
  config = quickstart.get_config()
  value = other(QUICKSTART[field])
  config.update_from_flattened_dict({field: value})
  change = f'{field}: '
  if field in SAFE_FIELDS:
    changes = check_workdir(config, tmp_path)
  else:
    with pytest.raises(ValueError) as refused:
      check_workdir(config, tmp_path)
    assert change in str(refused.value)
    if field not in RESUMABLE_FIELDS:
      with pytest.raises(ValueError, match=f'={field}: '):
        check_workdir(config, tmp_path, [field])
      return
    changes = check_workdir(config, tmp_path, [field])
  assert changes[field].startswith(f'resuming with {change}')
