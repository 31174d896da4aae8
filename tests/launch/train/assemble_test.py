import jax
import pytest

from launch.mesh import make_mesh
from launch.train.assemble import assemble, build_feed, check_devices
from tests.launch import toy_task
from tests.launch.toy_config import make_config
from tests.launch.toy_task import changed_task


def test_the_schedule_is_that_of_the_config():
  config = make_config(eval_every=0.5)
  feed = build_feed(config, toy_task.arrays(), make_mesh())
  schedule = feed.schedule
  assert schedule.examples == toy_task.EXAMPLES
  assert (schedule.batch_size, schedule.steps_per_dispatch) == (16, 4)
  assert schedule.total_steps == 31
  assert (schedule.eval_every, schedule.checkpoint_every) == (0.5, 2.0)


@pytest.mark.parametrize('invariant', [False, True])
def test_an_invariant_loss_is_made_for_a_single_device(invariant):
  config = make_config(device_count_invariant=invariant)
  mesh, meshes = make_mesh(jax.devices()[:1]), []

  def make_loss(config, mesh):
    meshes.append(mesh)
    return toy_task.make_loss(config, mesh)

  task = changed_task(make_loss=make_loss)
  feed = build_feed(config, toy_task.arrays(), mesh)
  training = assemble(task, config, feed, mesh)
  assert meshes == [None if invariant else mesh]
  assert training.schedule is feed.schedule


def test_virtual_devices_that_cannot_be_shared_are_refused():
  config = make_config(device_count_invariant=True, virtual_devices=3)
  mesh = make_mesh(jax.devices()[:1])
  with pytest.raises(ValueError, match='virtual_devices=3 '):
    check_devices(config, mesh)
  check_devices(make_config(virtual_devices=3), mesh)
