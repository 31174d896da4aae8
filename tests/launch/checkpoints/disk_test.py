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
  expected = {0: r'3 .*12\.20 MB', 1: r'2 .*8\.13 MB'}[there]
  with pytest.raises(OSError, match=f'8.00 MB .*{expected}') as raised:
    check_space(folder, 2, STATE)
  assert exit_code(raised.value) == ExitCode.DISK
  # If two of the three exist, there is room for the last.
  for step in range(2):
    (folder / str(step)).mkdir(exist_ok=True)
  check_space(folder, 2, STATE)


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path):
  folder = tmp_path / 'checkpoints'
  folder.write_text('a file')
  with pytest.raises(OSError, match='checkpoints ') as raised:
    check_space(folder, 2, STATE)
  assert exit_code(raised.value) == ExitCode.DISK
