"""Tests of the mixing of hidden activations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix

SHAPES = [(5,), (5, 4, 6, 3)]
apply_hidden = jax.jit(jaxmix.apply_hidden, static_argnums=1)
PARTNER = np.array([3, 1, 0, 4, 2])


def make(layer, lam=0.25, weights=None):
  """A draw for five samples, with weights for the activations 1 and 2."""
  if weights is None:
    weights = {1: lam, 2: lam}
  return jaxmix.HiddenMix(
    lam=jnp.full(5, lam, jnp.float32),
    partner=jnp.asarray(PARTNER, jnp.int32),
    layer=jnp.int32(layer),
    weights={k: jnp.asarray(w, jnp.float32) for k, w in weights.items()},
  )


def some_activations(shape=(5, 4, 6, 3), dtype=np.float32):
  drawn = np.random.default_rng(0).normal(size=shape)
  return jnp.asarray(drawn, dtype)


def by_definition(activations, weight):
  """In float64."""
  own = np.asarray(activations, np.float64)
  weight = np.asarray(weight, np.float64)
  return weight * own + (1 - weight) * own[PARTNER]


@pytest.mark.parametrize('shape', SHAPES)
def test_the_drawn_layer_is_mixed_as_defined(shape):
  activations = some_activations(shape)
  for lam in (0.25, 0.9):
    found = apply_hidden(make(2, lam), 2, activations)
    np.testing.assert_allclose(
      found, by_definition(activations, np.float32(lam)), rtol=1e-6, atol=1e-6
    )
    assert found.dtype == activations.dtype


def test_each_unit_has_its_weight():
  weight = np.random.default_rng(1).uniform(size=(4, 6, 3)).astype(np.float32)
  weight[0], weight[:, 0] = 1, 0
  activations = some_activations()
  mix = make(1, weights={1: weight, 2: weight[..., :1]})
  found = apply_hidden(mix, 1, activations)
  np.testing.assert_allclose(
    found, by_definition(activations, weight), rtol=1e-6, atol=1e-6
  )
  # Weights of 1 and 0 are copies, to the bit.
  copied = (weight == 0) | (weight == 1)
  exact = np.where(weight == 1, activations, np.asarray(activations)[PARTNER])
  np.testing.assert_array_equal(found[:, copied], exact[:, copied])
  mix = dataclasses.replace(mix, layer=jnp.int32(2))
  found = apply_hidden(mix, 2, activations)
  np.testing.assert_allclose(
    found, by_definition(activations, weight[..., :1]), rtol=1e-6, atol=1e-6
  )


def test_bfloat16_is_rounded_once():
  activations = some_activations(dtype=jnp.bfloat16)
  found = apply_hidden(make(1, 0.3), 1, activations)
  assert found.dtype == jnp.bfloat16
  exact = by_definition(activations, np.float32(0.3))
  # Half a unit in the last of 8 places, and a little for float32. (Products
  # rounded as well would be up to twice as far off.)
  error = np.abs(np.float64(found) - exact) / np.abs(exact)
  assert np.max(error) < 1.001 * 2**-8


@pytest.mark.parametrize('layer', [-1, 0, 1, 2, 3])
def test_only_the_drawn_layer_changes(layer):
  activations = some_activations().at[1].set(jnp.nan)  # which must not leak
  program = jax.jit(
    lambda mix, activations: [
      apply_hidden(mix, k, activations) for k in range(4)
    ]
  )
  found = program(make(layer), activations)
  for k in range(4):
    same = np.array_equal(found[k], activations, equal_nan=True)
    assert same == (k != layer or k not in (1, 2))


def test_weight_one_gives_the_activations_back():
  activations = some_activations().at[1].set(jnp.nan)
  for weight in (1, np.ones((4, 6, 3))):
    found = apply_hidden(make(1, weights={1: weight}), 1, activations)
    np.testing.assert_array_equal(found, activations)


def test_the_gradient_flows_to_both_samples():
  activations, rng = some_activations(), np.random.default_rng(2)
  weight = rng.uniform(size=(4, 6, 3)).astype(np.float32)
  pull = rng.normal(size=activations.shape)
  mix = make(1, weights={1: weight})
  _, back = jax.vjp(lambda x: apply_hidden(mix, 1, x), activations)
  (found,) = back(jnp.asarray(pull, jnp.float32))
  # Sample j is its own, and the partner of the i with partner[i] = j.
  expected = weight * pull
  for i, j in enumerate(PARTNER):
    expected[j] += (1 - weight) * pull[i]
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_labels_and_losses_accept_it_like_a_mix():
  rng = np.random.default_rng(3)
  labels, logits = jnp.array([0, 2, 1, 1, 0]), rng.normal(size=(5, 3))
  hidden = make(1, 0.25)
  mix = jaxmix.Mix(hidden.lam, hidden.partner)
  np.testing.assert_array_equal(
    jaxmix.mix_labels(hidden, labels, num_classes=3),
    jaxmix.mix_labels(mix, labels, num_classes=3),
  )
  np.testing.assert_array_equal(
    jaxmix.mixed_cross_entropy(logits, labels, hidden),
    jaxmix.mixed_cross_entropy(logits, labels, mix),
  )


def test_mismatched_activations_are_refused():
  mix = make(1, weights={1: np.ones((4, 6, 3))})
  with pytest.raises(TypeError, match='activations.*int32'):
    jaxmix.apply_hidden(mix, 1, jnp.zeros((5, 4, 6, 3), jnp.int32))
  for shape in [(), (4, 4, 6, 3)]:
    with pytest.raises(ValueError, match='5.*activations'):
      jaxmix.apply_hidden(mix, 1, jnp.zeros(shape))
  for shape in [(4, 6, 2), (6, 3), (1, 1, 1), (2, 4, 6, 1)]:
    with pytest.raises(ValueError, match=r'\[4, 6, 3\] at layer 1'):
      jaxmix.apply_hidden(mix, 1, jnp.zeros((5, *shape)))
