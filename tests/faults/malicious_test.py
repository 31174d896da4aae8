"""Files that an attacker would send are refused, cheaply, and run nothing."""

import json
import os
import subprocess
import sys

import pytest

from launch.config import config_json
from launch.shell.exit_codes import ExitCode
from tests.faults import trainer
from tests.faults.payloads import DEEP, HUGE, LAYOUT, bomb, write_bomb
from tests.launch.toy_config import get_config

SECONDS = 2.0  # of its own, for each
MB = 512  # above what importing everything takes


@pytest.fixture(scope='module')
def seen(tmp_path_factory):
  """How each payload ended, all of them in one process that reads them."""
  done = subprocess.run(
    [sys.executable, '-m', 'tests.faults.payloads']
    + [str(tmp_path_factory.mktemp('payloads'))],
    cwd=trainer.ROOT,
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_payload_is_refused_and_runs_nothing(seen):
  payloads = seen[1:]
  assert len(payloads) >= 60
  assert not [row for row in payloads if row['ended'] != 'refused']
  assert not [row for row in payloads if row['canary']]
  assert not [row for row in payloads if row['seconds'] > SECONDS]


def test_no_payload_takes_much_memory(seen):
  first, *payloads = seen
  assert max(row['mb'] for row in payloads) - first['mb'] < MB


def test_the_bombs_are_what_they_seem(tmp_path):
  """Else their refusal would say nothing."""
  import gzip

  path = write_bomb(tmp_path / 'x.gz', b'begin')
  with gzip.open(path) as file:
    assert file.read(2**20) == b'begin' + bytes(2**20 - 5)
    assert not any(file.read(2**26))
  assert path.stat().st_size < HUGE / 900
  assert sum(map(len, bomb(2**20))) < 5000


def write(folder, changes=(), text=None):
  path = folder / 'config.json'
  fields = json.loads(config_json(get_config())) | dict(changes)
  path.write_text(json.dumps(fields) if text is None else text)
  return path


def test_a_config_json_imports_nothing(tmp_path):
  """Not even what lies in the folder that Python looks into first."""
  canary = tmp_path / 'canary'
  (tmp_path / 'evil_task.py').write_text(f'open({str(canary)!r}, "w")')
  path = write(tmp_path, {'task': 'evil_task'})
  env = {'PYTHONPATH': str(tmp_path)}
  done = trainer.train(tmp_path / 'W', config=str(path), env=env)
  trainer.refused(done, ExitCode.CONFIG, "config.task='evil_task' of a .json")
  assert not canary.exists() and not (tmp_path / 'W').exists()
  if not trainer.FULL:
    return
  # Who names it has decided: it is imported, and is no task.
  done = trainer.train(
    tmp_path / 'W', {'task': 'evil_task'}, config=str(path), env=env
  )
  trainer.refused(done, ExitCode.CONFIG, 'the module lacks')
  assert canary.exists()


def test_only_a_py_file_is_run(tmp_path):
  canary = tmp_path / 'canary'
  path = tmp_path / 'config.txt'
  path.write_text(f'open({str(canary)!r}, "w")')
  done = trainer.train(tmp_path / 'W', config=str(path))
  trainer.refused(done, ExitCode.CONFIG, 'FILE.py[:ARG] or a FILE.json')
  assert not canary.exists()


FLAGS = {
  'a class': ('--config.__class__=x', 'no such field'),
  'a method': ('--config.to_dict=1', 'no such field'),
  'globals': ('--config.to_dict.__globals__=x', 'no such field'),
  'nan': ('--config.optimizer.lr=nan', 'config.optimizer.lr=nan'),
  'infinite': ('--config.optimizer.lr=1e400', 'config.optimizer.lr=inf'),
  'huge': ('--config.batch_size=1000000000000', 'config.batch_size=1000'),
  'long': ('--config.epochs=1e300', 'config.epochs=1e+300'),
  'words': ('--config.epochs=abc', '--config.epochs=abc'),
  'no workdir': ('--workdir=', '--workdir is empty'),
  'a file': ('--workdir=Makefile', '--workdir=Makefile'),
  'unknown': ('--trust_me', 'trust_me'),
  'identity': ('--allow_resume_change=seed', 'another seed'),
}


@pytest.mark.parametrize(
  'name', FLAGS if trainer.FULL else ('globals', 'no workdir')
)
def test_flags_are_refused(tmp_path, name):
  flag, said = FLAGS[name]
  done = trainer.train(tmp_path / 'W', None, flag)
  trainer.refused(done, ExitCode.CONFIG, said)
  assert not (tmp_path / 'W').exists()


def test_a_run_of_a_config_json_can_be_gone_on_with_from_python(tmp_path):
  path = write(tmp_path)
  first = trainer.train(tmp_path / 'W', {'epochs': 2}, config=str(path))
  assert first.code == 0, first.err
  again = trainer.train(tmp_path / 'W', {'epochs': 2})
  assert again.code == 0 and 'finished before' in again.out, again.err


@pytest.mark.parametrize(
  'damage', [DEEP, *(('', '{"seed": 0', '[]') if trainer.FULL else ())]
)
def test_a_damaged_config_of_the_workdir_is_named(tmp_path, damage):
  write(tmp_path, text=damage)
  done = trainer.train(tmp_path)
  trainer.refused(done, ExitCode.CONFIG, 'config.json is not a resolved config')


def test_a_link_in_the_workdir_is_not_written_through(tmp_path):
  """The workdir itself may be a link: to the disk with the space."""
  (tmp_path / 'real').mkdir()
  (tmp_path / 'W').symlink_to('real')
  victim = tmp_path / 'victim'
  victim.write_text('as it was')
  for name in ('config.json.part', 'metrics.jsonl.part', 'env.json.part'):
    (tmp_path / 'real' / name).symlink_to(victim)
  done = trainer.train(tmp_path / 'W', {'epochs': 2})
  assert done.code == 0, done.err
  assert victim.read_text() == 'as it was'


def test_a_bomb_for_a_data_set_is_the_data_sets_fault(tmp_path):
  bombed = write_bomb(tmp_path / LAYOUT.url.rpartition('/')[2])
  fields = {'data.source': bombed, 'data.dir': tmp_path / 'sets'}
  done = trainer.train(
    tmp_path / 'W', fields, config='configs/cifar100_wrn.py:smoke'
  )
  trainer.refused(done, ExitCode.DATA, str(bombed), 'bytes are packed in it')
  assert not os.path.exists(tmp_path / 'sets' / 'jaxmix_cifar')
