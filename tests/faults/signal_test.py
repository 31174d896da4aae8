"""R2: SIGTERM and SIGINT at any moment, once and again."""

import random
import signal
import time

import pytest

from launch.checkpoints import manifest
from launch.verify import verify
from tests.faults import trainer
from tests.faults.conftest import FIELDS

MOMENTS = ('import', 'compile', 'call', 'evaluation', 'save', 'twice')
NUMBERS = (signal.SIGTERM, signal.SIGINT)


def wait_for_line(process, text):
  said = []
  for line in process.stderr:
    said.append(line)
    if text in line:
      return said
  raise AssertionError(f'it never said {text!r}: {said}')


@pytest.mark.parametrize('trial', trainer.trials(len(MOMENTS), 84))
def test_stopped_at_any_moment_a_run_ends_in_the_same_bits(
  trial, whole, tmp_path
):
  rng = random.Random(trial)
  # Every moment in turn, and both signals at each in the full run.
  moment = MOMENTS[trial % len(MOMENTS)]
  number = NUMBERS[(trial + trial // len(MOMENTS)) % 2]
  said = []
  if moment == 'compile':
    process = trainer.start(tmp_path, FIELDS, '--compilation_cache=')
    said = wait_for_line(process, ': step 0 of 125')
    time.sleep(rng.uniform(0, 0.8))
  else:
    process = trainer.start(tmp_path, FIELDS)
    if moment == 'import':
      # Before that, it is Python itself that starts and is stopped.
      time.sleep(rng.uniform(0.15, 0.9))
    elif moment in ('call', 'twice'):
      trainer.wait_for_step(process, tmp_path, rng.randint(1, 110))
      time.sleep(rng.uniform(0, 0.02))
    elif moment == 'evaluation':
      # Step 25 has a row, and then its evaluation takes 200 ms.
      trainer.wait_for_step(process, tmp_path, 25 * rng.randint(1, 4))
      time.sleep(rng.uniform(0.01, 0.15))
    else:
      trainer.wait_for_save(process, tmp_path, rng.randint(1, 110))
      time.sleep(rng.uniform(0, 0.04))
  process.send_signal(number)
  begun = time.monotonic()
  if moment == 'twice':
    time.sleep(rng.uniform(0, 0.05))
    process.send_signal(number)
  stopped = trainer.wait(process)
  seconds = time.monotonic() - begun
  err = ''.join(said) + stopped.err
  where = f'trial {trial}, {number.name} in {moment}: {err}'
  assert stopped.code == 128 + number, f'exit code {stopped.code}; {where}'
  assert seconds < 10, f'it took {seconds:.1f} s; {where}'
  assert 'Traceback' not in err and 'to go on: ' in stopped.reason, where
  saved = manifest.steps(tmp_path / 'checkpoints')
  if 'first 1 steps done' in err:
    assert saved, f'a step was done and is lost; {where}'
    # Nothing that was done is done again.
    last = max((row['step'] for row in trainer.rows(tmp_path)), default=0)
    assert saved[-1] >= last, where
  if saved:
    assert not any(verify(tmp_path).values()), where
  done = trainer.train(tmp_path, FIELDS)
  assert done.code == 0, f'{where}; going on: {done.err}'
  trainer.assert_same_run(tmp_path, whole)
