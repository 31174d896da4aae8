import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix

SHAPES = [(5,), (5, 3), (5, 4, 6, 3)]
PARTNER = np.array([3, 1, 0, 4, 2])


def make(layer, lam=0.25, weights=None):
  """A draw for five samples, with weights for the states 1 and 2."""
  if weights is None:
    weights = {1: lam, 2: lam}
  return jaxmix.HiddenMix(
    lam=jnp.full(5, lam, jnp.float32),
    partner=jnp.asarray(PARTNER, jnp.int32),
    layer=jnp.int32(layer),
    weights={k: jnp.asarray(w, jnp.float32) for k, w in weights.items()},
  )


def some_states(shape=(5, 4, 6, 3), dtype=np.float32):
  drawn = np.random.default_rng(0).normal(size=shape)
  return jnp.asarray(drawn, dtype)


def by_definition(states, weight):
  """In float64."""
  own = np.asarray(states, np.float64)
  weight = np.asarray(weight, np.float64)
  return weight * own + (1 - weight) * own[PARTNER]


@pytest.mark.parametrize('shape', SHAPES)
def test_the_drawn_state_is_mixed_as_defined(shape):
  states = some_states(shape)
  for lam in (0.25, 0.9):
    found = jaxmix.apply_hidden(make(2, lam), 2, states)
    np.testing.assert_allclose(
      found, by_definition(states, np.float32(lam)), rtol=1e-6, atol=1e-6
    )
    assert found.dtype == states.dtype


def test_each_unit_has_its_weight():
  weight = np.random.default_rng(1).uniform(size=(4, 6, 3)).astype(np.float32)
  weight[0], weight[:, 0] = 1, 0
  states = some_states()
  mix = make(1, weights={1: weight, 2: weight[..., :1]})
  found = jaxmix.apply_hidden(mix, 1, states)
  np.testing.assert_allclose(
    found, by_definition(states, weight), rtol=1e-6, atol=1e-6
  )
  # Weights of 1 and 0 are copies, to the bit.
  copied = (weight == 0) | (weight == 1)
  exact = np.where(weight == 1, states, np.asarray(states)[PARTNER])
  np.testing.assert_array_equal(found[:, copied], exact[:, copied])
  mix = dataclasses.replace(mix, layer=jnp.int32(2))
  found = jaxmix.apply_hidden(mix, 2, states)
  np.testing.assert_allclose(
    found, by_definition(states, weight[..., :1]), rtol=1e-6, atol=1e-6
  )


def test_bfloat16_is_rounded_once():
  states = some_states(dtype=jnp.bfloat16)
  found = jaxmix.apply_hidden(make(1, 0.3), 1, states)
  assert found.dtype == jnp.bfloat16
  exact = by_definition(states, np.float32(0.3))
  # Half a unit in the last of 8 places, and a little for float32. (Products
  # rounded as well would be up to twice as far off.)
  error = np.abs(np.float64(found) - exact) / np.abs(exact)
  assert np.max(error) < 1.001 * 2**-8


@pytest.mark.parametrize('layer', [-1, 0, 1, 2, 3])
def test_only_the_drawn_state_changes(layer):
  states = some_states().at[1].set(jnp.nan)  # which must not leak
  program = jax.jit(
    lambda mix, states: [jaxmix.apply_hidden(mix, k, states) for k in range(4)]
  )
  found = program(make(layer), states)
  for k in range(4):
    same = np.array_equal(found[k], states, equal_nan=True)
    assert same == (k != layer or k not in (1, 2))


def test_all_the_weight_on_ones_own_gives_the_states_back():
  states = some_states().at[1].set(jnp.nan)
  for weight in (1, np.ones((4, 6, 3))):
    found = jaxmix.apply_hidden(make(1, weights={1: weight}), 1, states)
    np.testing.assert_array_equal(found, states)


def test_the_gradient_flows_to_both_samples():
  states, rng = some_states(), np.random.default_rng(2)
  weight = rng.uniform(size=(4, 6, 3)).astype(np.float32)
  pull = rng.normal(size=states.shape)
  mix = make(1, weights={1: weight})
  _, back = jax.vjp(lambda x: jaxmix.apply_hidden(mix, 1, x), states)
  (found,) = back(jnp.asarray(pull, jnp.float32))
  # Sample j is its own, and the partner of the i with partner[i] = j.
  expected = weight * pull
  for i, j in enumerate(PARTNER):
    expected[j] += (1 - weight) * pull[i]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_labels_and_losses_take_it_as_they_take_a_mix():
  rng = np.random.default_rng(3)
  labels, logits = jnp.array([0, 2, 1, 1, 0]), rng.normal(size=(5, 3))
  hidden = make(1, 0.25)
  mix = jaxmix.Mix(hidden.lam, hidden.partner, jnp.zeros(5, jnp.int32))
  np.testing.assert_array_equal(
    jaxmix.mix_labels(hidden, labels, num_classes=3),
    jaxmix.mix_labels(mix, labels, num_classes=3),
  )
  np.testing.assert_array_equal(
    jaxmix.mixed_cross_entropy(logits, labels, hidden),
    jaxmix.mixed_cross_entropy(logits, labels, mix),
  )


def test_what_does_not_fit_is_refused():
  mix = make(1, weights={1: np.ones((4, 6, 3))})
  with pytest.raises(TypeError, match=r'int32 cannot be mixed.*floating'):
    jaxmix.apply_hidden(mix, 1, jnp.zeros((5, 4, 6, 3), jnp.int32))
  for shape in [(), (4, 4, 6, 3)]:
    with pytest.raises(ValueError, match=r'a batch of 5; got states of shape'):
      jaxmix.apply_hidden(mix, 1, jnp.zeros(shape))
  for shape in [(4, 6, 2), (6, 3), (1, 1, 1), (2, 4, 6, 1)]:
    with pytest.raises(ValueError, match=r'states 1 of shape \[4, 6, 3\]; got'):
      jaxmix.apply_hidden(mix, 1, jnp.zeros((5, *shape)))
