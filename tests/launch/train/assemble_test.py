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


@pytest.mark.parametrize('count', [3, 12])
def test_virtual_devices_make_a_binary_tree(count):
  config = make_config(device_count_invariant=True, virtual_devices=count)
  mesh = make_mesh(jax.devices()[:1])
  with pytest.raises(ValueError, match=f'virtual_devices={count} '):
    check_devices(config, mesh)
  check_devices(make_config(virtual_devices=count), mesh)


@pytest.mark.devices
def test_devices_share_the_virtual_devices():
  fields = {'device_count_invariant': True}
  with pytest.raises(ValueError, match=r'virtual_devices=4 .*\(8\)'):
    check_devices(make_config(virtual_devices=4, **fields), make_mesh())
  check_devices(make_config(virtual_devices=8, **fields), make_mesh())


@pytest.mark.devices
def test_devices_must_share_a_batch_equally():
  check_devices(make_config(batch_size=16), make_mesh())
  with pytest.raises(ValueError, match=r'batch_size=12 .* devices \(8\)'):
    check_devices(make_config(batch_size=12), make_mesh())
