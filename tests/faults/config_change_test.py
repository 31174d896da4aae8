"""R7: a run resumes with a changed config only where that is allowed."""

import shutil
import signal

import pytest

from launch.config import flatten
from launch.shell.exit_codes import ExitCode
from launch.workdir.identity import RESUMABLE_FIELDS, SAFE_FIELDS
from tests.faults import trainer
from tests.launch.toy_config import get_config
from tests.launch.workdir.identity_test import OTHERS

pytestmark = pytest.mark.slow

# The other fields belong to Adam.
TOY = [field for field in OTHERS if field in flatten(get_config())]
# A field of each class: never, always and on request.
FEW = ['seed', 'log_every', 'optimizer.lr']
SLOW = {'slow_evaluation': 0.1}
# These are refused earlier: the module or the optimizer does not exist.
EARLIER = {'task', 'optimizer.name'}


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
  """The workdir of a run that was stopped and saved."""
  workdir = tmp_path_factory.mktemp('stopped') / 'W'
  process = trainer.start(workdir, SLOW)
  trainer.wait_for_step(process, workdir, 8)
  process.send_signal(signal.SIGTERM)
  done = trainer.wait(process)
  assert done.code == 128 + signal.SIGTERM, done.err
  return workdir


@pytest.mark.parametrize('field', TOY if trainer.FULL else FEW)
def test_a_changed_field_is_allowed_or_refused(stopped, tmp_path, field):
  workdir = tmp_path / 'W'
  shutil.copytree(stopped, workdir)
  before = {p: p.read_bytes() for p in workdir.rglob('*') if p.is_file()}
  fields = SLOW | {field: OTHERS[field]}
  if field == 'slow_evaluation':
    fields[field] = 0.2
  done = trainer.train(workdir, fields)
  if field not in SAFE_FIELDS:
    names = [field] if field in EARLIER else [field, f'{field}: ']
    trainer.refused(done, ExitCode.CONFIG, *names)
    after = {p: p.read_bytes() for p in workdir.rglob('*') if p.is_file()}
    assert after == before, 'the run was changed'
    flag = f'--allow_resume_change={field}'
    assert (flag in done.reason) == (field in RESUMABLE_FIELDS)
    done = trainer.train(workdir, fields, flag)
    if field not in RESUMABLE_FIELDS:
      trainer.refused(done, ExitCode.CONFIG)
      return
  assert done.code == 0, done.err
  assert f'{field}: ' in done.err and 'test/accuracy' in done.out
  # The changed config is now that of the run.
  done = trainer.train(workdir, fields)
  assert done.code == 0 and f'{field}: ' not in done.err, done.err
