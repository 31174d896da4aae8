import sys
import types

import pytest

from launch.task import Task, load_task
from tests.launch import toy_task


def test_the_toy_task_is_a_task():
  task: Task = toy_task  # pyright checks the four functions here
  assert load_task('tests.launch.toy_task') is task


def test_a_task_that_does_not_exist():
  with pytest.raises(ValueError, match="config.task='no.such'"):
    load_task('no.such')


def test_missing_functions_are_named(monkeypatch):
  half = types.ModuleType('half_task')
  half.init = half.make_loss = lambda: None  # pyright: ignore
  monkeypatch.setitem(sys.modules, 'half_task', half)
  with pytest.raises(ValueError, match='train_data, make_evaluators'):
    load_task('half_task')


def test_a_task_that_lacks_a_package_says_which(tmp_path, monkeypatch):
  (tmp_path / 'hungry_task.py').write_text('import no_such_package')
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ModuleNotFoundError, match='no_such_package'):
    load_task('hungry_task')
