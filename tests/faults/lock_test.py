"""R13: two trainers on one workdir, stale locks, and clocks set back."""

import os
import random
import socket
import time

import pytest

from launch.checkpoints import manifest
from tests.faults import trainer
from tests.faults.conftest import FIELDS


@pytest.mark.parametrize('trial', trainer.trials(1, 20))
def test_the_second_trainer_leaves_and_a_stale_lock_is_taken(
  trial, whole, tmp_path
):
  rng = random.Random(trial)
  first = trainer.start(tmp_path, FIELDS)
  trainer.wait_for_step(first, tmp_path, rng.randint(1, 60))
  begun = time.monotonic()
  second = trainer.train(tmp_path, FIELDS)
  assert time.monotonic() - begun < 20
  if first.poll() is None:
    trainer.refused(second, 9, f'process {first.pid}', socket.gethostname())
  else:  # the machine is slow, and the first has ended meanwhile
    assert second.code in (0, 9), second.err
  first.kill()
  first.communicate()
  # Every file an hour older, the newest checkpoint most of all.
  for step in manifest.steps(tmp_path / 'checkpoints'):
    old = time.time() - 3600 - step
    os.utime(tmp_path / 'checkpoints' / str(step), (old, old))
  newest = max(manifest.steps(tmp_path / 'checkpoints'))
  done = trainer.train(tmp_path, FIELDS)
  assert done.code == 0, done.err
  if 'finished before' not in done.err + done.out:
    assert f': step {newest} of 125' in done.err
  trainer.assert_same_run(tmp_path, whole)
