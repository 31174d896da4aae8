"""Malicious files are refused at low cost, and run no code."""

import json
import os
import subprocess
import sys

import pytest

from launch.config import config_json
from launch.shell.exit_codes import ExitCode
from tests.faults import trainer
from tests.faults.payloads import CIFAR, DEEP, HUGE, bomb, write_bomb
from tests.launch.toy_config import get_config

SECONDS = 2.0  # of CPU time, for each file
MB = 512  # of memory, above that of the imports


@pytest.fixture(scope='module')
def results(tmp_path_factory):
  """Returns the outcome of each payload, all read by one process."""
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


def test_every_payload_is_refused_and_runs_nothing(results):
  payloads = results[1:]
  assert len(payloads) >= 60
  assert not [x for x in payloads if x['ended'] != 'refused']
  assert not [x for x in payloads if x['canary']]
  assert not [x for x in payloads if x['seconds'] > SECONDS]


def test_no_payload_takes_much_memory(results):
  first, *payloads = results
  assert max(x['mb'] for x in payloads) - first['mb'] < MB


def test_the_bombs_inflate_to_their_size(tmp_path):
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


@pytest.mark.slow
def test_a_config_json_imports_nothing(tmp_path):
  """Not even a module in the folder that Python searches first."""
  canary = tmp_path / 'canary'
  (tmp_path / 'evil_task.py').write_text(f'open({str(canary)!r}, "w")')
  path = write(tmp_path, {'task': 'evil_task'})
  env = {'PYTHONPATH': str(tmp_path)}
  done = trainer.train(tmp_path / 'W', config=str(path), env=env)
  trainer.refused(done, ExitCode.CONFIG, "config.task='evil_task'")
  assert not canary.exists() and not (tmp_path / 'W').exists()
  if not trainer.FULL:
    return
  # Named on the command line, it is imported, and is not a task.
  done = trainer.train(
    tmp_path / 'W', {'task': 'evil_task'}, config=str(path), env=env
  )
  trainer.refused(done, ExitCode.CONFIG, 'config.task')
  assert canary.exists()


@pytest.mark.slow
def test_only_a_py_file_is_run(tmp_path):
  canary = tmp_path / 'canary'
  path = tmp_path / 'config.txt'
  path.write_text(f'open({str(canary)!r}, "w")')
  done = trainer.train(tmp_path / 'W', config=str(path))
  trainer.refused(done, ExitCode.CONFIG, 'config.txt')
  assert not canary.exists()


FLAGS = {
  'a class': ('--config.__class__=x', '__class__'),
  'a method': ('--config.to_dict=1', 'to_dict'),
  'globals': ('--config.to_dict.__globals__=x', 'config.to_dict is'),
  'nan': ('--config.optimizer.lr=nan', 'config.optimizer.lr=nan'),
  'infinite': ('--config.optimizer.lr=1e400', 'config.optimizer.lr=inf'),
  'huge': ('--config.batch_size=1000000000000', 'config.batch_size=1000'),
  'long': ('--config.epochs=1e300', 'config.epochs=1e+300'),
  'words': ('--config.epochs=abc', "config.epochs='abc'"),
  'no workdir': ('--workdir=', '--workdir'),
  'a file': ('--workdir=Makefile', '--workdir=Makefile'),
  'unknown': ('--trust_me', 'trust_me'),
  'identity': ('--allow_resume_change=seed', 'seed'),
}


@pytest.mark.slow
@pytest.mark.parametrize(
  'name', FLAGS if trainer.FULL else ('globals', 'no workdir')
)
def test_flags_are_refused(tmp_path, name):
  flag, named = FLAGS[name]
  done = trainer.train(tmp_path / 'W', None, flag)
  trainer.refused(done, ExitCode.CONFIG, named)
  assert not (tmp_path / 'W').exists()


@pytest.mark.slow
def test_a_run_of_a_config_json_resumes_from_python(tmp_path):
  path = write(tmp_path)
  first = trainer.train(tmp_path / 'W', {'epochs': 2}, config=str(path))
  assert first.code == 0, first.err
  again = trainer.train(tmp_path / 'W', {'epochs': 2})
  assert again.code == 0, again.err


@pytest.mark.slow
@pytest.mark.parametrize(
  'damage', [DEEP, *(('', '{"seed": 0', '[]') if trainer.FULL else ())]
)
def test_a_damaged_config_of_the_workdir_is_named(tmp_path, damage):
  write(tmp_path, text=damage)
  done = trainer.train(tmp_path)
  trainer.refused(done, ExitCode.CONFIG, 'config.json')


@pytest.mark.slow
def test_a_link_in_the_workdir_is_not_written_through(tmp_path):
  """The workdir itself may be a link, for example to another disk."""
  (tmp_path / 'real').mkdir()
  (tmp_path / 'W').symlink_to('real')
  victim = tmp_path / 'victim'
  victim.write_text('as it was')
  for name in ('config.json.part', 'metrics.jsonl.part', 'env.json.part'):
    (tmp_path / 'real' / name).symlink_to(victim)
  done = trainer.train(tmp_path / 'W', {'epochs': 2})
  assert done.code == 0, done.err
  assert victim.read_text() == 'as it was'


@pytest.mark.slow
def test_a_bomb_as_a_source_is_a_data_error(tmp_path):
  bombed = write_bomb(tmp_path / CIFAR.url.rpartition('/')[2])
  fields = {'data.source': bombed, 'data.dir': tmp_path / 'sets'}
  done = trainer.train(
    tmp_path / 'W', fields, config='configs/cifar100_wrn.py:smoke'
  )
  trainer.refused(done, ExitCode.DATA, str(bombed))
  assert not os.path.exists(tmp_path / 'sets' / 'jaxmix_cifar')
