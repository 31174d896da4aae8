import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.mesh import make_mesh
from launch.train import step
from launch.train.feeds import resident_feed
from launch.train.optimizer import make_optimizer, make_schedule
from launch.train.schedule import StepSchedule
from launch.train.state import (
  abstract_state,
  initial_state,
  make_init,
  make_keys,
)
from launch.train.step import make_train_steps
from tests.launch import toy_task
from tests.launch.toy_config import get_config


def parts(steps_per_dispatch, mesh=None, loss=None, looped=None, max_skipped=0):
  config = get_config()
  mesh = mesh or make_mesh()
  # 32 steps: eight at a time leave no rest to compile.
  plan = StepSchedule(5.12, toy_task.EXAMPLES, 16, steps_per_dispatch)
  feed = resident_feed(toy_task.arrays(), config.seed, plan, mesh)
  schedule = make_schedule(config.optimizer, plan)
  optimizer = make_optimizer(config.optimizer, schedule)
  init_key, key = make_keys(config.seed, mesh)
  program = make_init(toy_task, config, optimizer)

  def init(key):
    return initial_state(program, key, mesh)

  loss = loss or toy_task.make_loss(config, mesh)
  train_steps = make_train_steps(
    loss,
    optimizer,
    schedule,
    feed.select,
    mesh,
    max_skipped=max_skipped,
    looped=looped,
  )
  return init, init_key, train_steps, feed, key


def train(steps_per_dispatch, mesh=None, looped=None):
  parts_ = parts(steps_per_dispatch, mesh, looped=looped)
  init, init_key, train_steps, feed, key = parts_
  state, losses = init(init_key), []
  for block in feed.blocks(0):
    state, metrics = train_steps(state, feed.data, block, key)
    # Blocked here: queued collectives deadlock on few cores.
    losses.append(jax.device_get(metrics)['loss'])
  return jax.device_get(state), np.concatenate(losses)


@pytest.mark.parametrize('looped', [False, True])
def test_the_steps_of_a_call_do_not_matter(looped):
  one, losses_one = train(1, looped=False)
  eight, losses_eight = train(8, looped=looped)
  np.testing.assert_allclose(losses_one, losses_eight, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    one,
    eight,
  )
  assert one.step == 32
  assert losses_one[-5:].mean() < 0.6 * losses_one[:5].mean(), 'learns nothing'


@pytest.mark.parametrize('looped', [False, True])
def test_the_old_state_is_donated(looped):
  init, init_key, train_steps, feed, key = parts(4, looped=looped)
  old = init(init_key)
  new, _ = train_steps(old, feed.data, next(feed.blocks(0)), key)
  alive = [x for x in jax.tree.leaves(old) if not x.is_deleted()]
  assert not alive, f'{len(alive)} arrays of the old state use memory'
  assert not any(x.is_deleted() for x in jax.tree.leaves((new, feed.data)))


def compiled_text(looped, monkeypatch):
  """The compiled program of one call, and the state that it takes."""
  monkeypatch.setattr(step, '_one_by_one', lambda train_step: train_step)
  init, init_key, train_steps, feed, key = parts(4, looped=looped)
  state, block = init(init_key), next(feed.blocks(0))
  program: Any = train_steps
  lowered = program.lower(state, feed.data, block if looped else block[0], key)
  return lowered.compile().as_text(), state


@pytest.mark.parametrize('looped', [False, True])
def test_every_array_of_the_state_is_updated_in_place(looped, monkeypatch):
  text, state = compiled_text(looped, monkeypatch)
  (line,) = (x for x in text.splitlines() if 'input_output_alias' in x)
  aliases = line.partition('input_output_alias=')[2].partition('entry')[0]
  donated = {int(x) for x in re.findall(r'\((\d+), \{\}', aliases)}
  assert donated == set(range(len(jax.tree.leaves(state))))


@pytest.mark.parametrize('looped', [False, True])
def test_the_steps_never_ask_the_host(looped, monkeypatch):
  text, _ = compiled_text(looped, monkeypatch)
  asking = r'\b(infeed|outfeed|send|recv|send-done|recv-done)\('
  assert not re.findall(asking, text)
  calls = set(re.findall(r'custom_call_target="([^"]+)"', text))
  assert not [name for name in calls if 'callback' in name], calls


def test_metrics_come_stacked_with_the_learning_rate():
  init, init_key, train_steps, feed, key = parts(4)
  _, metrics = train_steps(init(init_key), feed.data, next(feed.blocks(0)), key)
  assert metrics.keys() == {'loss', 'accuracy', 'learning_rate', 'bad'}
  assert {x.shape for x in metrics.values()} == {(4,)}
  np.testing.assert_allclose(
    metrics['learning_rate'], 0.1 * np.array([1, 2, 3, 4]) / 6, rtol=1e-5
  )
  assert (metrics['bad'] == -1).all(), 'a good step is called not finite'


def spoiled_at(steps, spoil):
  """The loss of the toy task, but for steps whose gradient is spoiled."""
  toy = toy_task.make_loss(get_config(), make_mesh())

  def loss(params, model_state, batch, key):
    value, (state, metrics) = toy(params, model_state, batch, key)
    bad = jnp.isin(state['steps'] - 1, jnp.array(steps))
    return spoil(value, params, bad), (state, metrics)

  return loss


def spoil_gradient(value, params, bad):
  # Its value is 0, and finite: only the gradient of w2 is not.
  return value + jnp.sqrt(jnp.where(bad, 0 * params['w2'][0, 0], 1.0)) - 1


def spoil_value(value, params, bad):
  return value + jnp.where(bad, jnp.inf, 0.0)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('shape', [(), (5,), (300, 70), (3, 3, 4, 8), (1, 1)])
def test_one_element_that_is_not_finite_is_found(shape, dtype, value):
  good = jax.random.normal(jax.random.key(0), shape, dtype)
  size = good.size
  places = np.unique([0, size // 3, size // 2, size - 1])
  bad = [good.ravel().at[i].set(value).reshape(shape) for i in places]
  found = jax.jit(step._finite)([good, *bad, jnp.zeros((3, 0))])
  assert found.tolist() == [True, *[False] * len(bad), True]


@pytest.mark.parametrize('looped', [False, True])
@pytest.mark.parametrize(
  'spoil, named', [(spoil_gradient, 2), (spoil_value, 0)]
)
def test_what_is_not_finite_is_named_and_stops_all_updates(
  looped, spoil, named
):
  loss = spoiled_at([2], spoil)
  init, init_key, train_steps, feed, key = parts(4, loss=loss, looped=looped)
  blocks, states = feed.blocks(0), []
  state = init(init_key)
  names = step.values_of(state.params)
  assert names[2] == 'the gradient of w2'
  for _ in range(2):
    state, metrics = train_steps(state, feed.data, next(blocks), key)
    states.append(jax.device_get(state))
    if len(states) == 1:
      assert metrics['bad'].tolist()[:3] == [-1, -1, named]
  # Two good steps and no more, whatever was queued.
  one_by_one = parts(1, loss=loss, looped=looped)
  init, init_key, train_steps, feed, key = one_by_one
  good, blocks = init(init_key), feed.blocks(0)
  for _ in range(2):
    good, _ = train_steps(good, feed.data, next(blocks), key)
  for state in states:
    jax.tree.map(
      np.testing.assert_array_equal,
      (state.params, state.opt_state[:2], state.model_state),
      jax.device_get((good.params, good.opt_state[:2], good.model_state)),
    )
  assert (states[1].step, states[1].skipped) == (8, 6)


def test_bad_steps_that_are_allowed_are_left_out_and_training_goes_on():
  # The toy's own count stands still when a step is left out, so the very same
  # count comes again: one bad step after two good ones would never end.
  toy = toy_task.make_loss(get_config(), make_mesh())

  def loss(params, model_state, batch, key):
    value, rest = toy(params, model_state, batch, key)
    return value + jnp.where(batch['x'][0, 0] > 0.5, jnp.nan, 0.0), rest

  init, init_key, train_steps, feed, key = parts(
    8, loss=loss, looped=True, max_skipped=8
  )
  state, bad = init(init_key), []
  for block in feed.blocks(0):
    state, metrics = train_steps(state, feed.data, block, key)
    bad += metrics['bad'].tolist()
  left_out = sum(which == 0 for which in bad)
  assert 0 < left_out < 32 and set(bad) == {-1, 0}
  assert int(state.model_state['steps']) == 32 - left_out
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_keys_differ_between_steps_and_from_the_initialisation():
  init_key, key = make_keys(0, make_mesh())
  drawn = [init_key, *jax.random.split(init_key, 4), key]
  drawn += [jax.random.fold_in(key, step) for step in range(4)]
  data = {tuple(jax.random.key_data(k).tolist()) for k in drawn}
  assert len(data) == len(drawn), 'two of them would draw the same numbers'


def test_a_metric_may_not_take_the_name_of_the_loss():
  def loss(params, model_state, batch, key):
    del batch, key
    value = params['w1'].sum()
    return value, (model_state, {'loss': value})

  init, init_key, train_steps, feed, key = parts(4, loss=loss)
  with pytest.raises(ValueError, match='loss'):
    train_steps(init(init_key), feed.data, next(feed.blocks(0)), key)


def test_the_abstract_state_is_what_init_makes():
  config, mesh = get_config(), make_mesh()
  schedule = make_schedule(config.optimizer, StepSchedule(1.0, 100, 16, 4))
  init = make_init(toy_task, config, make_optimizer(config.optimizer, schedule))
  key, _ = make_keys(0, mesh)
  state = initial_state(init, key, mesh)
  abstract = abstract_state(init, key, mesh)
  for made, said in zip(
    jax.tree.leaves(state), jax.tree.leaves(abstract), strict=True
  ):
    assert (made.shape, made.dtype) == (said.shape, said.dtype)
    assert made.sharding == said.sharding


@pytest.mark.devices
def test_eight_devices_give_the_losses_of_one():
  one, losses_one = train(4, make_mesh(jax.devices()[:1]))
  eight, losses_eight = train(4, make_mesh(jax.devices()[:8]))
  np.testing.assert_allclose(losses_one, losses_eight, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(
    one.params['w1'], eight.params['w1'], rtol=1e-4, atol=1e-5
  )
