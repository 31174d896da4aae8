import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.mesh import make_mesh
from launch.train.assemble import assemble, build_feed
from tests.launch import toy_task
from tests.launch.toy_config import make_config
from tests.launch.toy_task import changed_task

VIRTUAL_DEVICES = 8


def plain_loss(params, model_state, batch, key):
  """The toy task without dropout, whose draws depend on the virtual device."""
  del key
  mean = 0.9 * model_state['mean'] + 0.1 * batch['x'].mean(0)
  out = toy_task.logits(params, 0.0, batch['x'])
  state = {'mean': mean, 'steps': model_state['steps'] + 1}
  return toy_task.cross_entropy(out, batch['y']), (state, {})


@functools.cache
def train(
  devices, virtual_devices=None, streamed=False, loss=plain_loss, steps=12
):
  """Returns the state and the losses after `steps` steps."""
  config = make_config(
    epochs=steps * 16 / toy_task.EXAMPLES,
    device_count_invariant=virtual_devices is not None,
    virtual_devices=virtual_devices or 1,
  )
  mesh = make_mesh(jax.devices()[:devices])
  data = toy_task.Rows() if streamed else toy_task.arrays()
  task = changed_task(make_loss=lambda config, mesh: loss)
  feed = build_feed(config, data, mesh)
  training = assemble(task, config, feed, mesh)
  state, losses = training.initial_state(), []
  for chunk in feed.chunks(0):
    with jax.transfer_guard('allow'):
      state, metrics = training.train_steps(
        state, feed.data, chunk, training.key
      )
    losses += np.asarray(metrics['loss']).tolist()
  return state, losses


def fingerprint(state):
  leaves = jax.tree.leaves(jax.device_get(state))
  return hashlib.sha256(b''.join(x.tobytes() for x in leaves)).hexdigest()


@pytest.mark.devices
def test_results_are_bitwise_those_of_one_device():
  one, losses = train(1, VIRTUAL_DEVICES)
  for devices in (2, 8):
    state, same = train(devices, VIRTUAL_DEVICES)
    assert same == losses
    assert fingerprint(state) == fingerprint(one), f'{devices} devices'


@pytest.mark.devices
def test_the_state_lies_on_every_device_and_can_be_trained_on():
  state, _ = train(8, VIRTUAL_DEVICES)
  for leaf in jax.tree.leaves(state):
    assert leaf.is_fully_replicated and len(leaf.addressable_shards) == 8


@pytest.mark.devices
def test_streamed_examples_give_the_results_of_resident_ones():
  resident, _ = train(2, VIRTUAL_DEVICES)
  streamed, _ = train(4, VIRTUAL_DEVICES, streamed=True)
  assert fingerprint(streamed) == fingerprint(resident)


def test_the_losses_are_those_of_the_usual_steps():
  _, invariant = train(1, 4, steps=4)
  _, usual = train(1, steps=4)
  np.testing.assert_allclose(invariant, usual, atol=1e-5)


def test_a_virtual_device_has_its_index_and_the_whole_batch():
  def loss(params, model_state, batch, key):
    value, rest = plain_loss(params, model_state, batch, key)
    first = 4 * batch['virtual_device']
    own = jax.lax.dynamic_slice_in_dim(batch['whole']['x'], first, 4)
    wrong = jnp.any(own != batch['x']) | (len(batch['resident']['x']) != 100)
    return jnp.where(wrong, jnp.nan, value), rest

  _, losses = train(1, 4, loss=loss, steps=4)
  assert np.isfinite(losses).all()


def test_a_virtual_device_that_is_not_finite_skips_the_step():
  def loss(params, model_state, batch, key):
    value, rest = plain_loss(params, model_state, batch, key)
    last = batch['virtual_device'] == 3
    return jnp.where(last, jnp.nan, value), rest

  state, losses = train(1, 4, loss=loss, steps=4)
  assert np.isnan(losses).all()
  assert int(state.skipped) == 4 and int(state.step) == 4
  kept, _ = train(1, 4, steps=4)
  assert int(kept.skipped) == 0
  assert fingerprint(state.params) != fingerprint(kept.params)


def test_a_metric_that_cannot_be_averaged_is_refused():
  def loss(params, model_state, batch, key):
    value, (state, _) = plain_loss(params, model_state, batch, key)
    return value, (state, {'right': jnp.sum(batch['y'] == 1)})

  with pytest.raises(ValueError, match="'right' as int32"):
    train(1, 4, loss=loss, steps=4)
