import types

import jax
import numpy as np
import pytest

from launch.checkpoints.disk import check_space
from launch.shell.exit_codes import ExitCode, exit_code

STATE = {'w': jax.ShapeDtypeStruct((1000, 1000), np.float32)}  # 4 MB


@pytest.mark.parametrize('there', [0, 1])
def test_a_disk_that_is_too_small_is_refused(there, tmp_path, monkeypatch):
  folder = tmp_path / 'checkpoints'
  check_space(folder, 2, STATE)
  for step in range(there):
    (folder / str(step)).mkdir()
  usage = types.SimpleNamespace(free=8_000_000)
  monkeypatch.setattr('shutil.disk_usage', lambda path: usage)
  with pytest.raises(OSError, match='8.00 MB free') as raised:
    check_space(folder, 2, STATE)
  assert exit_code(raised.value) == ExitCode.DISK
  said = str(raised.value)
  expected = {0: '12.20 MB', 1: '8.13 MB'}[there]
  assert f'{3 - there} more checkpoints of 4.07 MB need {expected}' in said
  # With all but one of the three there already, it has room.
  for step in range(2):
    (folder / str(step)).mkdir(exist_ok=True)
  check_space(folder, 2, STATE)


def test_a_folder_that_takes_no_file_is_refused_before_training(tmp_path):
  folder = tmp_path / 'checkpoints'
  folder.write_text('a file')
  with pytest.raises(OSError, match='checkpoints takes no files') as raised:
    check_space(folder, 2, STATE)
  assert exit_code(raised.value) == ExitCode.DISK
