import gc
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from launch.checkpoint import Checkpoints
from launch.mesh import make_mesh, replicated
from launch.state import TrainState, make_snapshot

# orbax leaves broken coroutines behind when it meets a damaged file.
pytestmark = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)

MINE = {'seed': 0, 'batch_size': 16, 'examples': 100, 'config': 'abc'}


def make_state(step, size=8):
  return TrainState(
    step=jnp.int32(step),
    params={'w': jnp.arange(size, dtype=jnp.float32) + step},
    opt_state=(jnp.full((2,), step, jnp.bfloat16), ()),
    model_state={},
  )


def target(size=8):
  sharding = replicated(make_mesh())
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    make_state(0, size),
  )


@pytest.fixture
def folder(tmp_path):
  yield tmp_path / 'checkpoints'
  gc.collect()  # They complain here, not in later tests.


def save(folder, *steps, keep=9, mine=MINE):
  checkpoints = Checkpoints(folder, keep, mine)
  for step in steps:
    checkpoints.save(step, make_state(step))
  checkpoints.close()


def restore(folder):
  restored = Checkpoints(folder, 9, MINE).restore(target())
  assert restored is not None, f'no checkpoint was found in {folder}'
  return restored


def truncate(folder: pathlib.Path, step: int):
  """Cuts the arrays of a checkpoint short, as a full disk does."""
  files = [p for p in (folder / str(step) / 'state').rglob('d/*')]
  assert files, 'orbax keeps its arrays elsewhere now: find them again'
  for path in files:
    path.write_bytes(path.read_bytes()[:20])


def assert_same(state, step):
  jax.tree.map(np.testing.assert_array_equal, state, make_state(step))


def test_nothing_saved_is_none(folder):
  assert Checkpoints(folder, 2, MINE).restore(target()) is None


def test_the_newest_comes_back_and_older_ones_go(folder):
  save(folder, 4, 8, 12, keep=2)
  step, state = restore(folder)
  assert step == 12
  assert_same(state, 12)
  assert state.params['w'].sharding == replicated(make_mesh())
  assert {p.name for p in folder.iterdir()} == {'8', '12'}


@pytest.mark.parametrize('step', [4, 8])
def test_a_step_is_not_silently_left_unsaved(folder, step):
  checkpoints = Checkpoints(folder, 2, MINE)
  checkpoints.save(8, make_state(8))
  with pytest.raises(RuntimeError, match=f'step {step} was not saved'):
    checkpoints.save(step, make_state(step))
  checkpoints.close()


@pytest.mark.parametrize('name', sorted(MINE))
def test_another_run_is_refused(folder, name):
  save(folder, 4)
  other = Checkpoints(folder, 2, MINE | {name: 'other'})
  with pytest.raises(ValueError, match=f"{name}: .* there, 'other' here"):
    other.restore(target())


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
  folder, caplog, monkeypatch
):
  save(folder, 4, 8, 12)
  truncate(folder, 12)
  # Whatever other tests of this process made of absl's logger.
  monkeypatch.setattr(logging.get_absl_logger(), 'propagate', True)
  with caplog.at_level('WARNING', 'absl'):
    step, state = restore(folder)
  assert step == 8
  assert_same(state, 8)
  assert 'checkpoint 12' in caplog.text, 'nobody is told'
  assert [p.name[:3] for p in (folder.parent / 'damaged').iterdir()] == ['12-']
  # The run comes by step 12 again.
  checkpoints = Checkpoints(folder, 9, MINE)
  checkpoints.save(12, make_state(12))
  checkpoints.close()
  assert restore(folder)[0] == 12


def test_a_damaged_manifest_gives_way_too(folder):
  save(folder, 4, 8)
  for path in (folder / '8' / 'manifest').iterdir():
    path.write_text('{')
  assert restore(folder)[0] == 4


def test_if_none_can_be_read_the_run_does_not_start_over(folder):
  save(folder, 4, 8)
  truncate(folder, 4)
  truncate(folder, 8)
  with pytest.raises(ValueError, match=r'none of .*\[4, 8\].* can be read'):
    Checkpoints(folder, 9, MINE).restore(target())
  assert {p.name for p in folder.iterdir()} == {'4', '8'}, 'evidence deleted'


def test_a_changed_model_is_an_error(folder):
  save(folder, 4)
  with pytest.raises(
    ValueError, match=r'\(9,\) is not compatible with .*\(8,\)'
  ):
    Checkpoints(folder, 9, MINE).restore(target(size=9))


def test_a_copy_in_the_background_survives_donation(folder):
  size = 1 << 20
  snapshot = make_snapshot(make_mesh())

  @jax.jit
  def fresh(step):
    return make_state(0, size).params['w'] + step

  step_up = jax.jit(lambda w: w * 2 + 1, donate_argnums=0)
  checkpoints = Checkpoints(folder, 9, MINE)
  w, expected = fresh(0), {}
  for step in range(1, 5):
    w = step_up(w)
    expected[step] = np.array(w)
    state = make_state(step, size)
    state = TrainState(state.step, {'w': w}, state.opt_state, {})
    checkpoints.save(step, snapshot(state))
    # The device writes into the very buffers that were copied.
    for _ in range(3):
      w = step_up(w)
  checkpoints.close()
  reader = Checkpoints(folder, 9, MINE)
  for step, values in expected.items():
    _, state = reader._read(step, target(size))
    np.testing.assert_array_equal(
      state.params['w'], values, f'checkpoint {step} holds a later state'
    )
