"""The trainer as people start it: in processes of its own."""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from launch.command import refuse_arguments
from launch.loop import fit
from launch.writers import read_metrics
from tests.launch import toy_task
from tests.launch.loop_test import assert_same_run, make_config

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIELDS = {'epochs': 20.0, 'eval_every': 1.0, 'slow_evaluation': 0.1}


def start(workdir, fields):
  command = [sys.executable, '-m', 'launch.main']
  command += ['--config=tests/launch/toy_config.py', f'--workdir={workdir}']
  command += [f'--config.{name}={value}' for name, value in fields.items()]
  return subprocess.Popen(
    command,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {'PYTHONUNBUFFERED': '1'},
  )


def ended(process):
  out, err = process.communicate(timeout=120)
  return process.returncode, out, err


def wait_for_step(process, workdir, step):
  while process.poll() is None:
    rows = read_metrics(workdir)
    if rows and rows[-1]['step'] >= step:
      return
    time.sleep(0.005)
  raise AssertionError(f'ended before step {step}: {ended(process)}')


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
    process = start(workdir, FIELDS)
    wait_for_step(process, workdir, rng.randint(first, last))
    time.sleep(rng.random() / 20)
    process.send_signal(number)
    code, out, err = ended(process)
    said.append(err)
    expected = -9 if number == signal.SIGKILL else 128 + number
    assert code == expected, f'{number!r} (seed {seed}): {code}\n{out}\n{err}'
  assert 'stopped by SIGTERM; step ' in said[0]
  assert 'to go on:' in said[0] and '-m launch.main' in said[0]
  assert 'stopped by SIGINT; step ' in said[2]
  code, out, err = ended(start(workdir, FIELDS))
  assert code == 0, f'seed {seed}: {err}'
  assert 'test/accuracy' in out
  assert_same_run(config, tmp_path / 'whole', workdir)


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'optimizer.lr': 'nan'}, 'config.optimizer.lr=nan must be'),
    ({'optimizer.lrr': '1'}, 'no such field of the config: .*lrr'),
  ],
)
def test_mistakes_are_one_line(tmp_path, fields, message):
  code, out, err = ended(start(tmp_path, fields))
  (line,) = err.splitlines()
  assert code == 8 and line.startswith('error: ')
  assert re.search(message, line)


def test_an_argument_that_is_no_flag_is_refused():
  with pytest.raises(ValueError, match="unknown argument 'method=cutmix'"):
    refuse_arguments(['launch.main', 'method=cutmix'])
