import json
import os
import random
import socket
import subprocess
import sys
import threading
import time

import pytest

from launch.checkpoints import manifest
from launch.shell.exit_codes import ExitCode, exit_code
from launch.workdir.lock import hold_lock
from tests.faults import trainer


def refused(workdir):
  with pytest.raises(ValueError, match=str(workdir)) as raised:
    with hold_lock(workdir):
      pass
  assert exit_code(raised.value) == ExitCode.LOCK
  return str(raised.value)


def test_the_second_process_is_told_of_the_first(tmp_path):
  with hold_lock(tmp_path / 'run'):
    # A lock belongs to an open file: a second one in this process is another.
    message = refused(tmp_path / 'run')
    assert f'process {os.getpid()} on {socket.gethostname()}' in message
  assert not list((tmp_path / 'run').iterdir()), 'a file is left'
  with hold_lock(tmp_path / 'run'):
    pass


def test_a_lock_left_by_a_killed_process_is_taken_over(tmp_path):
  code = (
    'import os, pathlib, signal, sys\n'
    'from launch.workdir.lock import hold_lock\n'
    'with hold_lock(pathlib.Path(sys.argv[1])):\n'
    '  os.kill(os.getpid(), signal.SIGKILL)\n'
  )
  done = subprocess.run([sys.executable, '-c', code, tmp_path])
  assert done.returncode == -9 and (tmp_path / 'lock').exists()
  with hold_lock(tmp_path):
    holder = json.loads((tmp_path / 'lock').read_text())
    assert holder['pid'] == os.getpid()
    refused(tmp_path)


def test_the_lock_can_be_taken_again(tmp_path):
  with hold_lock(tmp_path):
    refused(tmp_path)
  # The first lock is gone, and a second holder is still refused.
  with hold_lock(tmp_path):
    refused(tmp_path)


def test_a_second_process_may_wait_for_the_first(tmp_path):
  took = threading.Event()

  def hold():
    with hold_lock(tmp_path, name='x.lock'):
      took.set()
      time.sleep(0.3)

  thread = threading.Thread(target=hold)
  thread.start()
  took.wait()
  with hold_lock(tmp_path):  # another file, another lock
    pass
  with pytest.raises(ValueError, match=r'x\.lock'):
    with hold_lock(tmp_path, name='x.lock', seconds=0.05):
      pass
  with hold_lock(tmp_path, name='x.lock', seconds=30):
    assert not thread.is_alive() or (tmp_path / 'x.lock').exists()
  thread.join()


@pytest.mark.slow
@pytest.mark.parametrize('trial', trainer.trials(1, 20))
def test_a_second_trainer_is_refused_and_a_stale_lock_is_taken(trial, tmp_path):
  """Also if the clock was set back: the newest checkpoint looks the oldest."""
  rng = random.Random(trial)
  fields = {'epochs': 20.0, 'checkpoint_every': 0.6, 'slow_evaluation': 0.2}
  first = trainer.start(tmp_path, fields)
  trainer.wait_for_step(first, tmp_path, rng.randint(1, 60))
  second = trainer.train(tmp_path, fields)
  if first.poll() is None:
    trainer.refused(second, 9, f'process {first.pid}', socket.gethostname())
  else:  # On a slow machine the first may have finished.
    assert second.code in (0, 9), second.err
  first.kill()
  first.communicate()
  steps = manifest.steps(tmp_path / 'checkpoints')
  for step in steps:
    old = time.time() - 3600 - step
    os.utime(tmp_path / 'checkpoints' / str(step), (old, old))
  third = trainer.start(tmp_path, fields)
  done = trainer.wait(third)
  assert done.code == 0, done.err
  if first.returncode:
    assert f': step {max(steps)} of 125' in done.err
