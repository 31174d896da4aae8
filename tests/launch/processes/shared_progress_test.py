import os
import subprocess
import sys

from launch.processes import shared_progress
from launch.processes.shared_progress import (
  Mark,
  SharedProgress,
  create_memory,
  open_shared_progress,
)


def test_marks_are_counted():
  progress = open_shared_progress()
  assert progress.read() == Mark(0, 0, False)
  progress.mark(0)
  progress.mark(32, dispatching=True)
  assert progress.read() == Mark(2, 32, True)
  assert not shared_progress.has_watchdog()


def test_the_mark_of_a_process_that_has_died_can_be_read():
  descriptor, variables = create_memory()
  progress = SharedProgress(descriptor)
  code = 'import os; from launch.processes import shared_progress as s\n'
  code += 'assert s.has_watchdog()\n'
  code += 's.open_shared_progress().mark(7, dispatching=True); os._exit(9)'
  done = subprocess.run(
    [sys.executable, '-c', code],
    env=os.environ | variables,
    pass_fds=[descriptor],
  )
  assert done.returncode == 9
  assert progress.read() == Mark(1, 7, True)
