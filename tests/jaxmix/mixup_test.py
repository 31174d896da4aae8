"""Tests of Mixup."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from tests.jaxmix import drawn
from tests.jaxmix.drawn import IMAGES


@pytest.mark.parametrize('granularity', drawn.GRANULARITIES)
def test_images_and_labels_are_the_formula(granularity):
  rng = np.random.default_rng(0)
  images = rng.normal(size=IMAGES).astype(np.float32)
  labels = rng.dirichlet(np.ones(4), IMAGES[0]).astype(np.float32)

  @drawn.quick
  def run(key, images, labels):
    mix = jaxmix.draw_mixup(key, IMAGES, granularity=granularity)
    return mix, jaxmix.mixup(key, images, labels, granularity=granularity)

  mix, (out, mixed) = run(jax.random.key(1), images, labels)
  lam = np.asarray(mix.lam, float)
  assert (len(set(lam.tolist())) == 1) == (granularity == 'batch')
  partner = np.asarray(mix.partner)
  w = lam.reshape(-1, 1, 1, 1)
  want = w * images + (1 - w) * images[partner]
  # Two roundings of numbers below 5 in float32.
  np.testing.assert_allclose(out, want, atol=1e-6)
  want = lam[:, None] * labels + (1 - lam[:, None]) * labels[partner]
  np.testing.assert_allclose(mixed, want, atol=1e-6)
  np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-6)


def test_the_weight_of_the_pixels_is_that_of_the_label():
  for granularity in drawn.GRANULARITIES:
    mixes = drawn.modes()['mixup', granularity]
    mask = jnp.broadcast_to(mixes.mask[..., 0, 0], mixes.lam.shape)
    np.testing.assert_array_equal(mask, mixes.lam)


def test_flip_pairing_is_that_of_timm():
  # timm mixes a batch with itself reversed, and its labels likewise.
  mix = jaxmix.Mix(
    lam=jnp.full(4, 0.25),
    partner=jaxmix.draw_partner(jax.random.key(0), 4, pairing='flip'),
    mask=jnp.full((1, 1), 0.25),
  )
  x = np.random.default_rng(1).normal(size=(4, 5, 3)).astype(np.float32)
  mixed = jax.jit(jaxmix.apply)(mix, x)
  np.testing.assert_allclose(mixed, 0.25 * x + 0.75 * x[::-1], atol=1e-6)
