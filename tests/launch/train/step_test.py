import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.mesh import make_mesh
from launch.train import step
from launch.train.assemble import assemble, build_feed
from launch.train.state import make_keys
from tests.launch import toy_task
from tests.launch.toy_config import get_config, make_config
from tests.launch.toy_task import changed_task


@functools.cache
def make_training(steps_per_dispatch, *, devices=None, loss=None, **options):
  """The toy task's training of 32 steps; compiled once for all tests."""
  config = make_config(
    epochs=5.12,
    steps_per_dispatch=steps_per_dispatch,
    max_skipped_steps=options.pop('max_skipped', 0),
  )
  mesh = make_mesh(jax.devices()[:devices])
  task = toy_task
  if loss is not None:
    task = changed_task(make_loss=lambda config, mesh: loss)
  feed = build_feed(config, toy_task.arrays(), mesh)
  return assemble(task, config, feed, mesh, **options)


def first_chunk(training, state):
  chunk = next(training.feed.chunks(0))
  return training.train_steps(state, training.feed.data, chunk, training.key)


def train(training):
  state, losses = training.initial_state(), []
  for chunk in training.feed.chunks(0):
    state, metrics = training.train_steps(
      state, training.feed.data, chunk, training.key
    )
    # Blocked here: queued collectives deadlock on few cores.
    losses.append(jax.device_get(metrics)['loss'])
  return jax.device_get(state), np.concatenate(losses)


@pytest.mark.slow
def test_chunks_and_loops_do_not_matter():
  one, losses_one = train(make_training(4, looped=False))
  eight, losses_eight = train(make_training(8, looped=True))
  np.testing.assert_allclose(losses_one, losses_eight, rtol=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    one,
    eight,
  )
  assert one.step == 32
  assert losses_one[-5:].mean() < 0.6 * losses_one[:5].mean(), 'learns nothing'


@pytest.mark.slow
@pytest.mark.parametrize('looped', [False, True])
def test_the_old_state_is_donated(looped):
  training = make_training(4, looped=looped)
  old = training.initial_state()
  new, _ = first_chunk(training, old)
  alive = [x for x in jax.tree.leaves(old) if not x.is_deleted()]
  assert not alive, f'{len(alive)} arrays of the old state use memory'
  assert not any(
    x.is_deleted() for x in jax.tree.leaves((new, training.feed.data))
  )


@pytest.mark.parametrize('looped', [False, True])
def test_the_state_is_updated_in_place_and_the_host_never_asked(
  looped, monkeypatch
):
  monkeypatch.setattr(step, '_step_by_step', lambda train_step: train_step)
  training = make_training.__wrapped__(4, looped=looped)
  state, chunk = training.abstract_state(), next(training.feed.chunks(0))
  program: Any = training.train_steps
  chunk = chunk if looped else chunk[0]
  lowered = program.lower(state, training.feed.data, chunk, training.key)
  text = lowered.compile().as_text()
  (line,) = (x for x in text.splitlines() if 'input_output_alias' in x)
  aliases = line.partition('input_output_alias=')[2].partition('entry')[0]
  donated = {int(x) for x in re.findall(r'\((\d+), \{\}', aliases)}
  assert donated == set(range(len(jax.tree.leaves(state))))
  asking = r'\b(infeed|outfeed|send|recv|send-done|recv-done)\('
  assert not re.findall(asking, text)
  calls = set(re.findall(r'custom_call_target="([^"]+)"', text))
  assert not [name for name in calls if 'callback' in name], calls


def test_metrics_come_stacked_with_the_learning_rate():
  training = make_training(4, looped=False)
  _, metrics = first_chunk(training, training.initial_state())
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


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_one_element_that_is_not_finite_is_found(dtype):
  rng, arrays, expected = np.random.default_rng(0), [], []
  for shape in (), (5,), (300, 70), (3, 3, 4, 8), (1, 1), (3, 0):
    good = rng.normal(size=shape).astype(jnp.dtype(dtype))
    arrays.append(good)
    expected.append(True)
    positions = {0, good.size // 3, good.size - 1} if good.size else ()
    for value in np.nan, np.inf, -np.inf:
      for position in positions:
        bad = good.copy()
        bad.reshape(-1)[position] = value
        arrays.append(bad)
        expected.append(False)
  assert jax.jit(step._finite)(arrays).tolist() == expected


@pytest.mark.parametrize(
  'looped, spoil, named',
  [(True, spoil_gradient, 2), (False, spoil_value, 0)],
)
def test_a_value_that_is_not_finite_is_named_and_stops_all_updates(
  looped, spoil, named
):
  training = make_training(4, loss=spoiled_at([2], spoil), looped=looped)
  data, chunks = training.feed.data, training.feed.chunks(0)
  state = training.initial_state()
  names = step.checked_values(state.params)
  assert names[2] == 'the gradient of w2'
  first, second = next(chunks), next(chunks)
  # Only the two good steps before.
  good, _ = training.train_steps(
    training.initial_state(), data, first[:2], training.key
  )
  state, metrics = training.train_steps(state, data, first, training.key)
  assert metrics['bad'].tolist()[:3] == [-1, -1, named]
  states = [jax.device_get(state)]
  state, _ = training.train_steps(state, data, second, training.key)
  states.append(jax.device_get(state))
  for state in states:
    jax.tree.map(
      np.testing.assert_array_equal,
      (state.params, state.opt_state[:2], state.model_state),
      jax.device_get((good.params, good.opt_state[:2], good.model_state)),
    )
  assert (states[1].step, states[1].skipped) == (8, 6)


def test_bad_steps_that_are_allowed_are_skipped():
  # The toy's own count does not change when a step is skipped, so the same
  # count comes again: one bad step after two good ones would never end.
  toy = toy_task.make_loss(get_config(), make_mesh())

  def loss(params, model_state, batch, key):
    value, rest = toy(params, model_state, batch, key)
    return value + jnp.where(batch['x'][0, 0] > 0.5, jnp.nan, 0.0), rest

  training = make_training(8, loss=loss, looped=False, max_skipped=8)
  state, bad = training.initial_state(), []
  for chunk in training.feed.chunks(0):
    state, metrics = training.train_steps(
      state, training.feed.data, chunk, training.key
    )
    bad += metrics['bad'].tolist()
  skipped = sum(index == 0 for index in bad)
  assert 0 < skipped < 32 and set(bad) == {-1, 0}
  assert int(state.model_state['steps']) == 32 - skipped
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_keys_differ_between_steps_and_from_the_initialisation():
  @jax.jit
  def used(init_key, key):
    keys = [init_key, *jax.random.split(init_key, 4), key]
    keys += [jax.random.fold_in(key, step) for step in range(4)]
    return [jax.random.key_data(key) for key in keys]

  keys = [tuple(key.tolist()) for key in used(*make_keys(0, make_mesh()))]
  assert len(set(keys)) == len(keys), 'two of them draw the same numbers'


def test_a_metric_may_not_take_the_name_of_the_loss():
  def loss(params, model_state, batch, key):
    del batch, key
    value = params['w1'].sum()
    return value, (model_state, {'loss': value})

  training = make_training(4, loss=loss)
  with pytest.raises(ValueError, match=r"\['loss'\]"):
    first_chunk(training, training.initial_state())


def test_the_abstract_state_is_that_of_init():
  training = make_training(4, looped=False)
  for leaf, abstract in zip(
    jax.tree.leaves(training.initial_state()),
    jax.tree.leaves(training.abstract_state()),
    strict=True,
  ):
    assert (leaf.shape, leaf.dtype) == (abstract.shape, abstract.dtype)
    assert leaf.sharding == abstract.sharding


@pytest.mark.devices
def test_eight_devices_give_the_losses_of_one():
  one, losses_one = train(make_training(4, devices=1))
  eight, losses_eight = train(make_training(4, devices=8))
  np.testing.assert_allclose(losses_one, losses_eight, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(
    one.params['w1'], eight.params['w1'], rtol=1e-4, atol=1e-5
  )
