import os
import pathlib
import subprocess
import sys

import pytest

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
def test_a_program_ends_well_whatever_its_streams_are(redirect):
  body = 'say("hello"); say("hello", sys.stdout); print(1); settle()'
  assert run(body, redirect).endswith('code 0\n')


def test_a_full_stdout_is_given_up():
  body = 'say("hello", sys.stdout); settle(); say("again", sys.stdout)'
  assert run(body, '>/dev/full') == 'code 0\n'


def test_a_file_does_not_take_the_place_of_a_closed_stream(tmp_path):
  body = f'file = open({str(tmp_path / "f")!r}, "w"); print(file.fileno() > 2)'
  assert run(body, '<&-').startswith('True')
  assert os.path.exists(tmp_path / 'f')
