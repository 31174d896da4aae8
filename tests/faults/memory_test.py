import jax.numpy as jnp

from launch.checkpoints.manager import Checkpoints
from launch.train.state import TrainState
from launch.workdir.metrics import MetricWriter
from tests.faults.memory import left_per_call


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
  # One array is 6,144 bytes; caches that fill slowly take some hundred.
  assert others < 1000, f'{others:.0f} bytes stay after each save'
  # For each of 8 leaves, written and read, and some for the folder. None would
  # be good news: docs/reliability.md and the soak can forget of it.
  assert 3000 < tensorstore < 6000, f'tensorstore keeps {tensorstore:.0f} bytes'


def test_a_row_of_metrics_leaves_its_text(tmp_path):
  writer = MetricWriter(tmp_path, 0, tensorboard=False)

  def write(number):
    writer.write(number, 0.5, {'train/loss': 1.25})

  others, _ = left_per_call(write, 200)
  writer.close()
  assert others < 150, f'{others:.0f} bytes stay after a row of 50'
