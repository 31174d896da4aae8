"""R1: kill -9 while checkpoints are written, renamed and given up."""

import random
import re
import time

import pytest

from tests.faults import trainer
from tests.faults.conftest import FIELDS


@pytest.mark.parametrize('trial', trainer.trials(3, 100))
def test_killed_in_a_save_a_run_ends_in_the_same_bits(trial, whole, tmp_path):
  rng = random.Random(trial)
  process = trainer.start(tmp_path, FIELDS)
  trainer.wait_for_save(process, tmp_path, rng.randint(1, 110))
  # A save takes about 40 ms; with what follows it, to the next one.
  time.sleep(rng.uniform(0, 0.06))
  process.kill()
  process.communicate()
  done_steps = max((row['step'] for row in trainer.rows(tmp_path)), default=0)
  done = trainer.train(tmp_path, FIELDS)
  assert done.code == 0, f'trial {trial}: {done.err}'
  trainer.assert_same_run(tmp_path, whole)
  assert not (tmp_path / 'damaged').exists(), 'a kill looks like damage'
  told = re.search(r': step (\d+) of 125', done.err)
  assert told, done.err
  # A call and a save may be under way while the next call is queued.
  redone = done_steps - int(told[1])
  assert redone <= 12, f'trial {trial}: {redone} steps were computed again'
