import os
import subprocess
import sys

from launch.processes import shared_progress
from launch.processes.shared_progress import (
  Mark,
  SharedProgress,
  open_shared_progress,
  shared,
)


def test_marks_are_counted():
  own = open_shared_progress()
  assert own.read() == Mark(0, 0, False)
  own.mark(0)
  own.mark(32, calling=True)
  assert own.read() == Mark(2, 32, True)
  assert not shared_progress.has_watchdog()


def test_what_another_process_marks_is_seen_here_when_it_is_gone():
  descriptor, variables = shared()
  here = SharedProgress(descriptor)
  code = 'from launch import pulse; assert pulse.has_guard(); '
  code += 'pulse.open_pulse().mark(7, calling=True); import os; os._exit(9)'
  done = subprocess.run(
    [sys.executable, '-c', code],
    env=os.environ | variables,
    pass_fds=[descriptor],
  )
  assert done.returncode == 9
  assert here.read() == Mark(1, 7, True)
