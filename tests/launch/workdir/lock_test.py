import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from launch.shell.exit_codes import ExitCode, exit_code
from launch.workdir.lock import hold_lock


def refused(workdir):
  with pytest.raises(ValueError, match='is in use') as raised:
    with hold_lock(workdir):
      pass
  assert exit_code(raised.value) == ExitCode.LOCK
  return str(raised.value)


def test_the_second_is_told_of_the_first(tmp_path):
  with hold_lock(tmp_path / 'run'):
    # A lock belongs to an open file: a second one in this process is another.
    said = refused(tmp_path / 'run')
    assert f'process {os.getpid()} on {socket.gethostname()}' in said
  assert not list((tmp_path / 'run').iterdir()), 'a file is left behind'
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
    about = json.loads((tmp_path / 'lock').read_text())
    assert about['pid'] == os.getpid()
    refused(tmp_path)


def test_a_lock_file_that_was_removed_meanwhile_locks_nothing(tmp_path):
  with hold_lock(tmp_path):
    refused(tmp_path)
  # The one of before is gone, and two at once are still refused.
  with hold_lock(tmp_path):
    refused(tmp_path)


def test_a_second_one_may_wait_for_the_first(tmp_path):
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
  with pytest.raises(ValueError, match=r'holds x\.lock'):
    with hold_lock(tmp_path, name='x.lock', seconds=0.05):
      pass
  with hold_lock(tmp_path, name='x.lock', seconds=30):
    assert not thread.is_alive() or (tmp_path / 'x.lock').exists()
  thread.join()
