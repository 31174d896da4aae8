import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.mesh import make_mesh
from launch.train.feeds import make_feed
from launch.train.invariant_step import (
  check_virtual_devices,
  make_invariant_steps,
)
from launch.train.optimizer import make_optimizer, make_schedule
from launch.train.schedule import StepSchedule
from launch.train.state import initial_state, make_init, make_keys
from launch.train.step import make_train_steps
from tests.launch import toy_task
from tests.launch.toy_config import get_config

SHARDS = 8


def plain_loss(params, model_state, batch, key):
  """The toy task without dropout, which is of a shard's rows here."""
  del key
  mean = 0.9 * model_state['mean'] + 0.1 * batch['x'].mean(0)
  out = toy_task.logits(params, 0.0, batch['x'])
  state = {'mean': mean, 'steps': model_state['steps'] + 1}
  return toy_task.cross_entropy(out, batch['y']), (state, {})


def train(devices, shards=None, source=None, loss: Any = plain_loss, steps=12):
  """`steps` steps, elastic where there are shards; the state and its losses."""
  config = get_config()
  mesh = make_mesh(jax.devices()[:devices])
  elastic = shards is not None
  source = toy_task.arrays() if source is None else source
  plan = StepSchedule(steps * 16 / toy_task.EXAMPLES, toy_task.EXAMPLES, 16, 4)
  feed = make_feed(source, 0, plan, mesh, everywhere=elastic)
  schedule = make_schedule(config.optimizer, plan)
  optimizer = make_optimizer(config.optimizer, schedule)
  init_key, key = make_keys(0, mesh)
  state = initial_state(make_init(toy_task, config, optimizer), init_key, mesh)
  if elastic:
    train_steps = make_invariant_steps(
      loss, optimizer, schedule, feed, mesh, batch_size=16, shards=shards
    )
  else:
    train_steps = make_train_steps(loss, optimizer, schedule, feed.select, mesh)
  losses = []
  for block in feed.blocks(0):
    with jax.transfer_guard('allow'):
      state, metrics = train_steps(state, feed.data, block, key)
    losses += np.asarray(metrics['loss']).tolist()
  return state, losses


def digest(state):
  leaves = jax.tree.leaves(jax.device_get(state))
  return hashlib.sha256(b''.join(x.tobytes() for x in leaves)).hexdigest()


@pytest.mark.devices
def test_the_bits_are_those_of_one_device():
  one, losses = train(1, SHARDS)
  for devices in (2, 4, 8):
    state, same = train(devices, SHARDS)
    assert same == losses
    assert digest(state) == digest(one), f'{devices} devices: other bits'


@pytest.mark.devices
def test_the_state_lies_on_every_device_and_can_be_trained_on():
  state, _ = train(8, SHARDS, steps=4)
  for leaf in jax.tree.leaves(state):
    assert leaf.is_fully_replicated and len(leaf.addressable_shards) == 8


@pytest.mark.devices
def test_streamed_examples_give_the_bits_of_resident_ones():
  resident, _ = train(4, SHARDS)
  streamed, _ = train(2, SHARDS, toy_task.Rows())
  assert digest(streamed) == digest(resident)


def test_the_losses_are_those_of_the_usual_steps():
  _, elastic = train(1, 4)
  _, usual = train(1)
  np.testing.assert_allclose(elastic, usual, atol=1e-5)


def test_a_shard_is_told_its_number_and_has_all_rows_beside_its_own():
  def loss(params, model_state, batch, key):
    value, rest = plain_loss(params, model_state, batch, key)
    first = 4 * batch['shard']
    own = jax.lax.dynamic_slice_in_dim(batch['whole']['x'], first, 4)
    wrong = jnp.any(own != batch['x']) | (len(batch['resident']['x']) != 100)
    return jnp.where(wrong, jnp.nan, value), rest

  _, losses = train(1, 4, loss=loss, steps=4)
  assert np.isfinite(losses).all()


def test_a_shard_that_is_not_finite_leaves_the_step_out():
  def loss(params, model_state, batch, key):
    value, rest = plain_loss(params, model_state, batch, key)
    last = batch['shard'] == 3
    return jnp.where(last, jnp.nan, value), rest

  state, losses = train(1, 4, loss=loss, steps=4)
  assert np.isnan(losses).all()
  assert int(state.skipped) == 4 and int(state.step) == 4
  kept, _ = train(1, 4, steps=4)
  assert int(kept.skipped) == 0
  assert digest(state.params) != digest(kept.params)


def test_a_metric_that_cannot_be_averaged_is_refused():
  def loss(params, model_state, batch, key):
    value, (state, _) = plain_loss(params, model_state, batch, key)
    return value, (state, {'right': jnp.sum(batch['y'] == 1)})

  with pytest.raises(ValueError, match="metric 'right' .* is int32"):
    train(1, 4, loss=loss, steps=4)


@pytest.mark.parametrize('shards', [3, 6, 12])
def test_shards_make_a_tree_of_pairs(shards):
  with pytest.raises(
    ValueError, match=f'virtual_devices={shards}.*power of tw'
  ):
    check_virtual_devices(shards, make_mesh(jax.devices()[:1]))


@pytest.mark.devices
def test_devices_share_the_shards():
  with pytest.raises(ValueError, match=r'virtual_devices=4.*devices \(8\)'):
    check_virtual_devices(4, make_mesh())
  check_virtual_devices(8, make_mesh())
