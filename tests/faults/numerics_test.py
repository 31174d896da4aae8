"""R5: a loss, gradient or moment that is not finite stops the run unsaved."""

import re

import numpy as np
import pytest

from launch.checkpoints import manifest, storage
from tests.faults import trainer
from tests.faults.conftest import FIELDS

pytestmark = pytest.mark.slow

CONFIG = 'tests/faults/numerics_config.py'
AT = 42


def check_all_finite(workdir):
  """Checks all checkpoints; returns their steps."""
  folder = workdir / 'checkpoints'
  for step in manifest.steps(folder):
    manifest.check(folder / str(step))
    state = storage.read_dicts(folder / str(step) / 'state')
    leaves = list(walk(state))
    assert len(leaves) > 4
    for path, leaf in leaves:
      assert np.isfinite(leaf).all(), f'{path} of step {step} is not finite'
  return manifest.steps(folder)


def walk(tree, path=''):
  if isinstance(tree, dict):
    for name, branch in tree.items():
      yield from walk(branch, f'{path}/{name}')
  elif isinstance(tree, list | tuple):
    for i, branch in enumerate(tree):
      yield from walk(branch, f'{path}/{i}')
  elif tree is not None:
    yield path, np.asarray(tree, np.float64)


full = pytest.mark.skipif(not trainer.FULL, reason='FAULTS=full')


@pytest.mark.parametrize(
  'spoil, name',
  [
    pytest.param('lambda', 'loss', marks=full),
    pytest.param('infinite', 'loss', marks=full),
    ('gradient', 'w2'),
  ],
)
def test_the_fault_is_named_and_never_saved(spoil, name, tmp_path):
  fields = {**FIELDS, 'spoil': spoil, 'spoil_at': AT}
  first = trainer.train(tmp_path, fields, config=CONFIG)
  trainer.refused(first, 5, name, f'step {AT}', 'config.optimizer.lr')
  saved = check_all_finite(tmp_path)
  # A dispatch has 4 steps, and one ends before step 42.
  assert saved and AT - 4 <= saved[-1] < AT
  # A resumed run ends in the same way, and loses nothing.
  again = trainer.train(tmp_path, fields, config=CONFIG)
  trainer.refused(again, 5, name, f'step {AT}')
  assert check_all_finite(tmp_path) == saved
  steps = [record['step'] for record in trainer.records(tmp_path)]
  assert max(steps) < AT and steps == sorted(steps)


@full
def test_a_learning_rate_that_is_too_high(tmp_path):
  fields = {**FIELDS, 'optimizer.lr': 1e4, 'optimizer.warmup_epochs': 0.0}
  done = trainer.train(tmp_path, fields, config=CONFIG)
  trainer.refused(done, 5, 'finite', 'step ')
  check_all_finite(tmp_path)


def test_a_moment_that_overflows_though_all_gradients_are_finite(tmp_path):
  fields = {**FIELDS, 'spoil': 'moments', 'spoil_at': AT}
  done = trainer.train(tmp_path, fields, config=CONFIG + ':adam')
  trainer.refused(done, 5, 'opt_state/1/nu/w1')
  assert check_all_finite(tmp_path)[-1] < AT


def test_allowed_bad_steps_are_skipped(tmp_path):
  fields = {**FIELDS, 'spoil': 'batch', 'max_skipped_steps': 3}
  done = trainer.train(tmp_path, fields, config=CONFIG)
  assert done.code == 0, done.err
  warned = re.findall(r'warning: .* loss .*step (\d+)', done.err)
  records = trainer.records(tmp_path)
  skipped = sum(record.get('train/skipped', 0) for record in records)
  assert len(warned) == len(set(warned)) == skipped > 0
  check_all_finite(tmp_path)
  # A run that is resumed in the middle skips the same steps.
  process = trainer.start(tmp_path / 'again', fields, config=CONFIG)
  trainer.wait_for_step(process, tmp_path / 'again', 40)
  process.terminate()
  assert trainer.wait(process).code == 143
  done = trainer.train(tmp_path / 'again', fields, config=CONFIG)
  assert done.code == 0, done.err
  trainer.assert_same_run(tmp_path / 'again', tmp_path)
