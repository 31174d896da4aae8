"""Trainers that nobody listens to: full, closed and broken streams."""

import subprocess
import sys

import pytest

from tests.faults import trainer
from tests.faults.conftest import FIELDS


@pytest.mark.parametrize(
  'command',
  ['{train} 2>/dev/full', '{train} >&- 2>&-', '( {train} 2>&1 ) | head -1']
  if trainer.FULL
  else ['{train} >&- 2>&-', '( {train} 2>&1 ) | head -1'],
)
def test_a_run_goes_on_whether_or_not_it_is_heard(command, whole, tmp_path):
  train = [sys.executable, '-m', 'launch.main', f'--config={trainer.TOY}']
  train += [f'--workdir={tmp_path}']
  train += [f'--config.{name}={value}' for name, value in FIELDS.items()]
  line = command.format(train=' '.join(train))
  done = subprocess.run(
    ['bash', '-o', 'pipefail', '-c', line],
    cwd=trainer.ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done
  trainer.assert_same_run(tmp_path, whole)
