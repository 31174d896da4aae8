import dataclasses
import gc
import pathlib
import time
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.checkpoints import storage
from launch.checkpoints.manager import Checkpoints
from launch.mesh import make_mesh, replicated
from launch.shell.exit_codes import ExitCode, exit_code
from launch.train.state import TrainState, make_snapshot

MINE = {'seed': 0, 'batch_size': 16, 'examples': 100, 'config': 'abc'}


def make_state(step, size=8):
  return TrainState(
    step=jnp.int32(step),
    skipped=jnp.int32(0),
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
  return tmp_path / 'checkpoints'


def save(folder, *steps, keep=9, mine=MINE):
  checkpoints = Checkpoints(folder, keep, mine)
  for step in steps:
    checkpoints.save(step, make_state(step))
  checkpoints.wait()
  checkpoints.close()


def restore(folder):
  restored = Checkpoints(folder, 9, MINE).restore(target())
  assert restored is not None, f'no checkpoint was found in {folder}'
  return restored


def truncate(folder: pathlib.Path, step: int):
  """Truncates the arrays of a checkpoint, as a full disk does."""
  files = [p for p in (folder / str(step) / 'state').rglob('d/*')]
  assert files, 'orbax stores its arrays in other files now'
  for path in files:
    path.write_bytes(path.read_bytes()[:20])


def assert_same(state, step):
  jax.tree.map(np.testing.assert_array_equal, state, make_state(step))


def test_nothing_saved_is_none(folder):
  assert Checkpoints(folder, 2, MINE).restore(target()) is None


def test_the_newest_is_restored_and_older_ones_are_deleted(folder):
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
  with pytest.raises(ValueError, match=f"{name}: .*'other'"):
    other.restore(target())


def test_a_damaged_checkpoint_is_replaced_by_the_one_before(folder):
  save(folder, 4, 8, 12)
  truncate(folder, 12)
  warnings = []
  checkpoints = Checkpoints(folder, 9, MINE, warn=warnings.append)
  restored = checkpoints.restore(target())
  assert restored is not None and restored[0] == 8
  assert_same(restored[1], 8)
  (line,) = warnings
  assert 'checkpoint 12 is damaged' in line and 'from step 8' in line
  assert [p.name[:3] for p in (folder.parent / 'damaged').iterdir()] == ['12-']
  # The run comes by step 12 again.
  checkpoints.save(12, make_state(12))
  checkpoints.wait()
  checkpoints.close()
  assert restore(folder)[0] == 12


def test_a_damaged_manifest_is_a_damaged_checkpoint(folder):
  save(folder, 4, 8)
  (folder / '8' / 'manifest.json').write_text('{')
  assert restore(folder)[0] == 4


def test_if_all_are_damaged_the_run_does_not_start_again(folder):
  save(folder, 4, 8)
  truncate(folder, 4)
  truncate(folder, 8)
  with pytest.raises(ValueError, match=r'damaged: \[4, 8\]') as raised:
    Checkpoints(folder, 9, MINE).restore(target())
  assert exit_code(raised.value) == ExitCode.CHECKPOINT
  assert {p.name for p in folder.iterdir()} == {'4', '8'}, 'evidence deleted'


@pytest.mark.parametrize(
  'change, message',
  [
    (lambda x: target(size=9), r'params/w is float32\[8\] .*float32\[9\]'),
    (
      lambda x: dataclasses.replace(
        x, params={'w': jax.ShapeDtypeStruct((8,), np.float16)}
      ),
      r'params/w is float32\[8\] .*float16\[8\]',
    ),
    (
      lambda x: dataclasses.replace(x, params={}),
      r'params/w is float32\[8\] .*absent',
    ),
    (
      lambda x: dataclasses.replace(x, model_state=x.params),
      r'model_state/w is absent .*float32\[8\]',
    ),
  ],
)
def test_another_model_is_refused_and_nothing_is_cast(folder, change, message):
  save(folder, 4)
  with pytest.raises(ValueError, match=message) as raised:
    Checkpoints(folder, 9, MINE).restore(change(target()))
  assert exit_code(raised.value) == ExitCode.CHECKPOINT
  assert restore(folder)[0] == 4, 'a good checkpoint was set aside'


def test_a_copy_in_the_background_survives_donation(folder):
  size = 1 << 18
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
    state = dataclasses.replace(make_state(step, size), params={'w': w})
    checkpoints.save(step, snapshot(state))
    # The device writes into the very buffers that were copied.
    for _ in range(3):
      w = step_up(w)
  checkpoints.wait()
  checkpoints.close()
  for step, values in expected.items():
    state = storage.read_dicts(folder / str(step) / 'state')
    np.testing.assert_array_equal(
      state['params']['w'], values, f'checkpoint {step} holds a later state'
    )


def test_incomplete_checkpoints_are_removed(folder):
  save(folder, 4)
  for name in ('part-8', 'part-old-2'):
    (folder / name / 'state').mkdir(parents=True)
  assert restore(folder)[0] == 4
  assert [p.name for p in folder.iterdir()] == ['4']


def test_other_files_are_left_alone(folder):
  save(folder, 4)
  (folder / '007').mkdir()
  (folder / 'notes').mkdir()
  (folder / '12').symlink_to(folder / '4')
  save(folder, 8, keep=1)
  assert {p.name for p in folder.iterdir()} == {'007', 'notes', '12', '8'}
  assert restore(folder)[0] == 8


def test_a_state_that_is_not_finite_is_never_saved(folder):
  save(folder, 4)
  checkpoints = Checkpoints(folder, 1, MINE)
  bad = make_state(8)
  bad = dataclasses.replace(bad, opt_state=(jnp.array([1, jnp.inf]), ()))
  checkpoints.save(8, bad)
  with pytest.raises(FloatingPointError, match='opt_state/0 .* step 8'):
    checkpoints.wait()
  checkpoints.close()
  assert [p.name for p in folder.iterdir()] == ['4'], 'the good one is gone'


def test_large_finite_numbers_are_saved(folder):
  state = dataclasses.replace(
    make_state(4), params={'w': jnp.full((8,), 3e38, jnp.float32)}
  )
  checkpoints = Checkpoints(folder, 1, MINE)
  checkpoints.save(4, state)
  checkpoints.wait()
  assert restore(folder)[0] == 4


class Disk:
  """A disk that is full for the first `times` calls."""

  def __init__(self, times):
    self.times = times

  def __call__(self):
    self.times -= 1
    if self.times >= 0:
      raise OSError(28, 'No space left on device')


def test_a_failed_save_is_a_warning_and_the_next_one_resets_the_count(folder):
  warnings, disk = [], Disk(2)
  checkpoints = Checkpoints(
    folder, 9, MINE, max_failures=2, warn=warnings.append
  )
  for step in (4, 8, 12):
    checkpoints.save(step, make_state(step), before=disk)
  checkpoints.wait()
  assert [p.name for p in folder.iterdir()] == ['12']
  assert len(warnings) == 2 and 'step 4 was not saved' in warnings[0]
  assert 'failure 2 of 2' in warnings[1]
  disk.times = 2
  for step in (16, 20, 24):
    checkpoints.save(step, make_state(step), before=disk)
  checkpoints.wait()
  checkpoints.close()
  assert restore(folder)[0] == 24


def test_too_many_failed_saves_are_an_error_and_the_old_one_stays(folder):
  save(folder, 4)
  warnings = []
  checkpoints = Checkpoints(
    folder, 1, MINE, max_failures=1, warn=warnings.append
  )
  checkpoints.save(8, make_state(8), before=Disk(9))
  checkpoints.save(12, make_state(12), before=Disk(9))
  with pytest.raises(OSError, match=r'failure 2 in a row.* is 4') as raised:
    checkpoints.save(16, make_state(16))
  assert exit_code(raised.value) == ExitCode.DISK
  checkpoints.close()
  assert [p.name for p in folder.iterdir()] == ['4']
  assert restore(folder)[0] == 4


def test_the_last_save_is_tried_again_until_there_is_room(folder):
  warnings = []
  checkpoints = Checkpoints(
    folder, 1, MINE, max_failures=1, warn=warnings.append
  )
  checkpoints.save(8, make_state(8), before=Disk(1))
  checkpoints.wait()
  checkpoints.close()
  assert len(warnings) == 1 and restore(folder)[0] == 8


def test_a_process_that_has_to_end_gives_up_soon(folder):
  save(folder, 4)
  warnings = []
  checkpoints = Checkpoints(
    folder, 1, MINE, max_failures=99, warn=warnings.append
  )
  checkpoints.save(8, make_state(8), before=Disk(99))
  with pytest.raises(OSError, match='step 8 was not saved.* is 4') as raised:
    checkpoints.wait(lambda: True)
  assert exit_code(raised.value) == ExitCode.DISK
  checkpoints.close()
  assert len(warnings) == 1 and restore(folder)[0] == 4


def test_what_is_saved_is_not_kept_on_the_devices(folder):
  checkpoints = Checkpoints(folder, 1, MINE)
  state = make_state(4)
  alive = weakref.ref(state.params['w'])
  checkpoints.save(4, state)
  del state
  checkpoints.wait()
  for _ in range(500):  # The thread drops it just after the save has ended.
    gc.collect()  # orbax leaves cycles.
    if alive() is None:
      break
    time.sleep(0.01)
  assert alive() is None, 'a second state stays on the devices'
  checkpoints.close()
