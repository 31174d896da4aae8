import os
import pathlib
import shlex
import subprocess
import sys

import pytest

from launch.workdir.metrics import final_metrics
from tests.faults import trainer

ROOT = pathlib.Path(__file__).resolve().parents[3]


def run(body, redirect=''):
  program = (
    f'import sys\nfrom launch.shell.console import *\nopen_streams()\n{body}'
  )
  command = f'"$0" -c "$1" {redirect}; echo "code $?"'
  done = subprocess.run(
    ['bash', '-c', command, sys.executable, program],
    capture_output=True,
    text=True,
    cwd=ROOT,
  )
  return done.stdout


@pytest.mark.parametrize(
  'redirect', ['2>&-', '>&- 2>&-', '<&- >&- 2>&-', '2>/dev/full', '']
)
def test_a_program_succeeds_with_any_streams(redirect):
  body = 'log_line("hello"); log_line("hello", sys.stdout); print(1); '
  body += 'flush_streams()'
  assert run(body, redirect).endswith('code 0\n')


def test_output_to_a_full_stdout_is_discarded():
  body = 'log_line("hello", sys.stdout); flush_streams(); '
  body += 'log_line("again", sys.stdout)'
  assert run(body, '>/dev/full') == 'code 0\n'


def test_a_file_does_not_replace_a_closed_stream(tmp_path):
  body = f'file = open({str(tmp_path / "f")!r}, "w"); print(file.fileno() > 2)'
  assert run(body, '<&-').startswith('True')
  assert os.path.exists(tmp_path / 'f')


@pytest.mark.slow
@pytest.mark.parametrize(
  'command',
  ['{train} >&- 2>&-', '( {train} 2>&1 ) | head -1', '{train} 2>/dev/full'][
    : 3 if trainer.FULL else 2
  ],
)
def test_a_run_finishes_with_any_streams(command, tmp_path):
  train = [sys.executable, '-m', 'launch.main', f'--config={trainer.TOY}']
  line = command.format(train=shlex.join([*train, f'--workdir={tmp_path}']))
  done = subprocess.run(
    ['bash', '-o', 'pipefail', '-c', line],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done
  assert final_metrics(tmp_path)
