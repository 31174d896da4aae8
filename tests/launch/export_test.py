import json

import jax
import numpy as np
import pytest

from launch import export
from launch.train.loop import fit
from tests.launch import toy_task
from tests.launch.toy_config import make_config
from tests.launch.train.loop_test import final_state


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('run')
  config = make_config(epochs=1.0, **{'optimizer.warmup_epochs': 0.0})
  fit(toy_task, config, workdir)
  return config, workdir


def test_the_export_is_the_newest_checkpoint(finished, capsys):
  _, workdir = finished
  assert export.main([str(workdir)]) == 0
  assert str(workdir / 'export') in capsys.readouterr().out
  state = final_state(workdir)
  expected = {
    '/'.join([part, *(str(key.key) for key in path)]): leaf
    for part in ('params', 'model_state')
    for path, leaf in jax.tree_util.tree_leaves_with_path(state[part])
  }
  with np.load(workdir / 'export' / 'arrays.npz', allow_pickle=False) as file:
    assert set(file.files) == set(expected) and expected
    for name, array in expected.items():
      np.testing.assert_array_equal(file[name], array, strict=True)
  described = json.loads((workdir / 'export' / 'export.json').read_text())
  assert described['step'] == int(state['step'])
  assert described['config'] == json.loads(
    (workdir / 'config.json').read_text()
  )


def test_a_folder_can_be_given_and_its_files_are_replaced(finished, tmp_path):
  _, workdir = finished
  for _ in range(2):
    assert export.main([str(workdir), str(tmp_path / 'a' / 'b')]) == 0
  names = sorted(path.name for path in (tmp_path / 'a' / 'b').iterdir())
  assert names == ['arrays.npz', 'export.json'], 'leftovers'


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
  assert export.main([str(tmp_path / 'nowhere')]) == 4
  assert 'nowhere' in capsys.readouterr().err
  (tmp_path / 'config.json').write_text('{}')
  assert export.main([str(tmp_path)]) == 4
  assert 'no checkpoint' in capsys.readouterr().err
  assert not (tmp_path / 'checkpoints').exists(), 'reading made a folder'
  assert not (tmp_path / 'export').exists()


def test_a_damaged_checkpoint_is_an_error(finished, tmp_path, capsys):
  import shutil

  _, workdir = finished
  copy = tmp_path / 'copy'
  shutil.copytree(workdir, copy)
  for path in (copy / 'checkpoints').rglob('*'):
    if path.is_file() and 'd' in path.parts[-2:-1]:
      path.write_bytes(path.read_bytes()[:10])
  assert export.main([str(copy)]) == 4
  assert 'expected' in capsys.readouterr().err


@pytest.mark.parametrize(
  'arguments, code', [([], 2), (['--help'], 0), (['a', 'b', 'c'], 2)]
)
def test_usage(arguments, code, capsys):
  with pytest.raises(SystemExit) as stop:
    export.main(arguments)
  assert stop.value.code == code
  assert 'usage' in ''.join(capsys.readouterr())


def test_the_folder_of_the_run_is_not_overwritten(finished, capsys):
  _, workdir = finished
  before = set(workdir.iterdir())
  assert export.main([str(workdir), str(workdir)]) == 8
  assert 'out=' in capsys.readouterr().err
  assert set(workdir.iterdir()) == before
