"""The trainer as people start it: in processes of its own."""

import random
import re
import signal
import subprocess
import sys
import time

import pytest

from launch.cli import refuse_arguments
from launch.train.loop import fit
from tests.faults import trainer
from tests.launch import toy_task
from tests.launch.train.loop_test import assert_same_run, make_config

FIELDS = {'epochs': 20.0, 'eval_every': 1.0, 'slow_evaluation': 0.1}


def test_killed_three_ways_a_run_ends_in_the_same_bits(tmp_path):
  config = make_config(**FIELDS)  # 125 steps
  fit(toy_task, config, tmp_path / 'whole')
  workdir = tmp_path / 'killed'
  seed = 7
  rng = random.Random(seed)
  said = []
  for number, first, last in (
    (signal.SIGTERM, 5, 25),
    (signal.SIGKILL, 35, 50),
    (signal.SIGINT, 60, 80),
  ):
    process = trainer.start(workdir, FIELDS)
    trainer.wait_for_step(process, workdir, rng.randint(first, last))
    time.sleep(rng.random() / 20)
    process.send_signal(number)
    code, out, err = trainer.wait(process)
    said.append(err)
    assert code == 128 + number, (
      f'{number!r} (seed {seed}): {code}\n{out}\n{err}'
    )
  assert 'stopped by SIGTERM; step ' in said[0]
  assert 'to go on:' in said[0] and '-m launch.main' in said[0]
  assert 'stopped by SIGINT; step ' in said[2]
  code, out, err = trainer.train(workdir, FIELDS)
  assert code == 0, f'seed {seed}: {err}'
  assert 'test/accuracy' in out
  assert_same_run(tmp_path / 'whole', workdir)


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'optimizer.lr': 'nan'}, 'config.optimizer.lr=nan must be'),
    ({'optimizer.lrr': '1'}, 'no such field of the config: .*lrr'),
  ],
)
def test_mistakes_are_one_line(tmp_path, fields, message):
  code, out, err = trainer.train(tmp_path, fields)
  (line,) = err.splitlines()
  assert code == 8 and line.startswith('error: ')
  assert re.search(message, line)


@pytest.mark.parametrize('program, flag', [('main', '-h'), ('sweep', '--help')])
def test_help_is_no_failure_and_shows_the_flags(program, flag):
  done = subprocess.run(
    [sys.executable, '-m', f'launch.{program}', flag],
    cwd=trainer.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0 and not done.stderr
  assert f'python -m launch.{program} --config=' in done.stdout
  for name in ('--config', '--workdir', '--allow_resume_change'):
    assert f'  {name}: ' in done.stdout
  assert ('  --rows: ' in done.stdout) == (program == 'sweep')


def test_an_argument_that_is_no_flag_is_refused():
  with pytest.raises(ValueError, match="unknown argument 'method=cutmix'"):
    refuse_arguments(['launch.main', 'method=cutmix'])


@pytest.mark.parametrize('program', ['sweep', 'evaluate'])
def test_only_training_is_done_by_several_processes(program, tmp_path):
  done = subprocess.run(
    [sys.executable, '-m', f'launch.{program}', f'--config={trainer.TOY}']
    + [f'--workdir={tmp_path}', '--coordinator=here:1234'],
    cwd=trainer.ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  (line,) = done.stderr.splitlines()
  assert done.returncode == 8, line
  assert line.startswith('error: --coordinator=here:1234: only launch.main')


@pytest.mark.parametrize(
  'flags, said',
  [
    (['--process_id=0'], '--coordinator is missing'),
    (['--peer_timeout=0'], 'peer_timeout'),
    (
      ['--coordinator=here', '--process_id=0', '--num_processes=2'],
      "--coordinator='here' must be HOST:PORT",
    ),
  ],
)
def test_flags_of_a_cluster_that_cannot_be(flags, said, tmp_path):
  code, _, err = trainer.train(tmp_path / 'w', None, *flags)
  (line,) = err.splitlines()
  assert code == 8 and line.startswith('error: ') and said in line
  assert not (tmp_path / 'w').exists(), 'a run was begun'
