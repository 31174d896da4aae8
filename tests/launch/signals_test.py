import os
import signal
import subprocess
import sys

import pytest

from launch.signals import stop_requests


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_the_old_handler_comes_back(number):
  before = signal.getsignal(number)
  with stop_requests() as stop:
    assert stop() is None
    os.kill(os.getpid(), number)
    assert stop() == number
  assert signal.getsignal(number) == before


def test_a_second_interrupt_leaves_at_once():
  program = (
    'import os, signal\n'
    'from launch.signals import stop_requests\n'
    'with stop_requests():\n'
    '  os.kill(os.getpid(), signal.SIGINT)\n'
    '  print("still here", flush=True)\n'
    '  os.kill(os.getpid(), signal.SIGINT)\n'
    '  print("deaf", flush=True)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True
  )
  assert (done.returncode, done.stdout) == (130, 'still here\n'), done.stderr
