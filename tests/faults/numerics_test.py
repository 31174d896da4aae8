"""R5: a loss, a gradient, a rate or a moment that is not finite."""

import re

import numpy as np
import pytest

from launch.checkpoints import manifest, storage
from tests.faults import trainer
from tests.faults.conftest import FIELDS

CONFIG = 'tests/faults/numerics_config.py'
AT = 42


def everything_saved_is_finite(workdir):
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


@pytest.mark.parametrize(
  'spoil, said',
  [
    ('lambda', f'the loss of step {AT} is not finite (it is nan)'),
    ('infinite', f'the loss of step {AT} is not finite (it is inf)'),
    ('gradient', f'the gradient of w2 of step {AT} is not finite'),
  ],
)
def test_it_is_named_and_never_saved(spoil, said, tmp_path):
  fields = {**FIELDS, 'spoil': spoil, 'spoil_at': AT}
  first = trainer.train(tmp_path, fields, config=CONFIG)
  trainer.refused(first, 5, said, 'config.optimizer.lr')
  saved = everything_saved_is_finite(tmp_path)
  # A call has 4 steps, and one ends before step 42.
  assert saved and AT - 4 <= saved[-1] < AT
  # Going on comes to the same end; it loses nothing.
  again = trainer.train(tmp_path, fields, config=CONFIG)
  trainer.refused(again, 5, said)
  assert everything_saved_is_finite(tmp_path) == saved
  steps = [row['step'] for row in trainer.rows(tmp_path)]
  assert max(steps) < AT and steps == sorted(steps)


def test_a_rate_that_is_too_high(tmp_path):
  fields = {**FIELDS, 'optimizer.lr': 1e4, 'optimizer.warmup_epochs': 0.0}
  done = trainer.train(tmp_path, fields, config=CONFIG)
  if done.code == 0:
    pytest.fail('a rate of 1e4 should not train the toy')
  trainer.refused(done, 5, 'is not finite')
  assert re.search(r'of step \d+ is not finite|after step \d+', done.reason)
  everything_saved_is_finite(tmp_path)


def test_a_moment_that_overflows_though_all_gradients_are_finite(tmp_path):
  fields = {**FIELDS, 'spoil': 'moments', 'spoil_at': AT}
  done = trainer.train(tmp_path, fields, config=CONFIG + ':adam')
  trainer.refused(done, 5, 'opt_state/1/nu/w1 is not finite after step ')
  assert everything_saved_is_finite(tmp_path)[-1] < AT


def test_some_bad_steps_may_be_left_out(tmp_path):
  fields = {**FIELDS, 'spoil': 'batch', 'max_skipped_steps': 3}
  done = trainer.train(tmp_path, fields, config=CONFIG)
  assert done.code == 0, done.err
  told = re.findall(r'warning: the loss of step (\d+) is not finite', done.err)
  left_out = sum(r.get('train/skipped', 0) for r in trainer.rows(tmp_path))
  assert len(told) == len(set(told)) == left_out > 0
  everything_saved_is_finite(tmp_path)
  # Resumed in the middle, the same steps are left out.
  process = trainer.start(tmp_path / 'again', fields, config=CONFIG)
  trainer.wait_for_step(process, tmp_path / 'again', 40)
  process.terminate()
  assert trainer.wait(process).code == 143
  done = trainer.train(tmp_path / 'again', fields, config=CONFIG)
  assert done.code == 0, done.err
  trainer.assert_same_run(tmp_path / 'again', tmp_path)
