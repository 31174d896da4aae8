"""Memory that a save leaves allocated."""

import jax.numpy as jnp
import pytest

from launch.checkpoints.manager import Checkpoints
from launch.train.state import TrainState
from tests.faults.memory import left_per_call


@pytest.mark.slow
def test_a_save_leaves_nothing_in_memory(tmp_path):
  state = TrainState(
    step=jnp.int32(0),
    skipped=jnp.int32(0),
    params={f'w{i}': jnp.ones((64, 24)) for i in range(6)},
    opt_state=(),
    model_state={},
  )
  checkpoints = Checkpoints(tmp_path / 'checkpoints', 2, {'seed': 0})

  def save(number):
    checkpoints.save(1 + number, state)
    checkpoints.wait()

  others, tensorstore = left_per_call(save, 60)
  checkpoints.close()
  # One array is 6,144 bytes; caches that fill slowly take some hundred bytes.
  assert others < 1000, f'each save leaks {others:.0f} bytes'
  # For each of 8 leaves, written and read, and some for the folder. If it is 0,
  # tensorstore is fixed: update docs/reliability.md and the soak test.
  assert 3000 < tensorstore < 6000, f'tensorstore leaks {tensorstore:.0f} bytes'
