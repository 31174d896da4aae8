"""R1 and R2: a run that is stopped or killed at any moment resumes exactly."""

import random
import re
import signal
import time

import pytest

from launch.checkpoints import manifest
from launch.verify import verify
from tests.faults import trainer
from tests.faults.conftest import FIELDS

pytestmark = pytest.mark.slow

MOMENTS = ('save', 'evaluation', 'import', 'twice', 'compile', 'call')
NUMBERS = (signal.SIGTERM, signal.SIGINT)


def read_until(process, text):
  """Returns the lines of stderr up to the first that contains `text`."""
  lines = []
  for line in process.stderr:
    lines.append(line)
    if text in line:
      return lines
  raise AssertionError(f'no line contains {text!r}: {lines}')


@pytest.mark.parametrize('trial', trainer.trials(4, 84))
def test_a_stopped_run_resumes_with_the_same_bits(trial, whole, tmp_path):
  rng = random.Random(trial)
  # Each moment in turn, in the full run with both signals.
  moment = MOMENTS[trial % len(MOMENTS)]
  number = NUMBERS[(trial + trial // len(MOMENTS)) % 2]
  lines = []
  if moment == 'compile':
    process = trainer.start(tmp_path, FIELDS, '--compilation_cache=')
    lines = read_until(process, ': step 0 of 125')
    time.sleep(rng.uniform(0, 0.8))
  else:
    process = trainer.start(tmp_path, FIELDS)
    if moment == 'import':
      # Earlier than that Python itself is starting.
      time.sleep(rng.uniform(0.15, 0.9))
    elif moment in ('call', 'twice'):
      trainer.wait_for_step(process, tmp_path, rng.randint(1, 110))
      time.sleep(rng.uniform(0, 0.02))
    elif moment == 'evaluation':
      # After the record of step 25 its evaluation takes 200 ms.
      trainer.wait_for_step(process, tmp_path, 25 * rng.randint(1, 4))
      time.sleep(rng.uniform(0.01, 0.15))
    else:
      trainer.wait_for_save(process, tmp_path, rng.randint(1, 110))
      time.sleep(rng.uniform(0, 0.04))
  process.send_signal(number)
  sent = time.monotonic()
  if moment == 'twice':
    time.sleep(rng.uniform(0, 0.05))
    process.send_signal(number)
  stopped = trainer.wait(process)
  seconds = time.monotonic() - sent
  err = ''.join(lines) + stopped.err
  where = f'trial {trial}, {number.name} in {moment}: {err}'
  assert stopped.code == 128 + number, f'exit code {stopped.code}; {where}'
  assert seconds < 10, f'it took {seconds:.1f} s; {where}'
  assert 'Traceback' not in err, where
  assert '-m launch.main' in stopped.reason, f'no command to resume; {where}'
  saved = manifest.steps(tmp_path / 'checkpoints')
  if 'first 1 steps done' in err:
    assert saved, f'a step was done and is lost; {where}'
    # No step is computed twice.
    last = max((x['step'] for x in trainer.records(tmp_path)), default=0)
    assert saved[-1] >= last, where
  if saved:
    assert not any(verify(tmp_path).values()), where
  done = trainer.train(tmp_path, FIELDS)
  assert done.code == 0, f'{where}; resumed: {done.err}'
  trainer.assert_same_run(tmp_path, whole)


@pytest.mark.parametrize('trial', trainer.trials(1, 100))
def test_a_run_killed_in_a_save_resumes_with_the_same_bits(
  trial, whole, tmp_path
):
  rng = random.Random(trial)
  process = trainer.start(tmp_path, FIELDS)
  trainer.wait_for_save(process, tmp_path, rng.randint(1, 110))
  # A save takes about 40 ms; this includes what follows it.
  time.sleep(rng.uniform(0, 0.06))
  process.kill()
  process.communicate()
  reached = max((x['step'] for x in trainer.records(tmp_path)), default=0)
  done = trainer.train(tmp_path, FIELDS)
  assert done.code == 0, f'trial {trial}: {done.err}'
  trainer.assert_same_run(tmp_path, whole)
  assert not (tmp_path / 'damaged').exists(), 'a kill looks like damage'
  resumed = re.search(r': step (\d+) of 125', done.err)
  assert resumed, done.err
  # A dispatch and a save may be under way while the next one is queued.
  repeated = reached - int(resumed[1])
  assert repeated <= 12, f'trial {trial}: {repeated} steps were repeated'
