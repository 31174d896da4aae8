"""Tests of Manifold Mixup."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxmix
from tests.jaxmix import drawn

MANY = 3000
LAYERS = (0, 2, 3)


@pytest.fixture(scope='module')
def draws():
  def draw(key):
    return jaxmix.draw_manifold_mixup(key, 6, layers=LAYERS)

  keys = jax.random.split(jax.random.key(0), MANY)
  return jax.tree.map(
    np.asarray, drawn.quick(lambda keys: jax.lax.map(draw, keys))(keys)
  )


def test_the_layer_is_uniform(draws):
  counts = [np.sum(draws.layer == k) for k in LAYERS]
  assert sum(counts) == MANY
  assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_lambda_is_beta_and_one_for_the_batch(draws):
  assert (draws.lam == draws.lam[:, :1]).all()
  beta = scipy.stats.beta(2, 2)  # the alpha of the official code
  for k in LAYERS:  # whichever is drawn
    lam = draws.lam[draws.layer == k, 0]
    assert scipy.stats.kstest(lam, beta.cdf).pvalue > 1e-3


def test_every_unit_has_the_weight_of_the_label(draws):
  assert draws.weights.keys() == set(LAYERS)
  for weight in draws.weights.values():
    np.testing.assert_array_equal(weight, draws.lam[:, 0])


def test_partners_are_permutations_of_any_pairing(draws):
  assert (np.sort(draws.partner) == np.arange(6)).all()
  assert len(np.unique(draws.partner, axis=0)) > 500  # of 720
  mix = jaxmix.draw_manifold_mixup(jax.random.key(0), 6, pairing='roll')
  np.testing.assert_array_equal(mix.partner, np.roll(np.arange(6), 1))


def test_of_the_input_alone_it_is_mixup():
  images = jax.random.normal(jax.random.key(1), (6, 5, 4, 3))
  key = jax.random.key(2)
  mix = jaxmix.draw_manifold_mixup(key, 6, layers=(0,), alpha=1.0)
  mixup = jaxmix.draw_mixup(key, images.shape)
  np.testing.assert_array_equal(mix.lam, mixup.lam)
  apply = jax.jit(
    lambda images: (
      jaxmix.apply_hidden(mix, 0, images),
      jaxmix.apply(mixup, images),
    )
  )
  np.testing.assert_allclose(*apply(images), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
  'options, message',
  [
    ({'layers': ()}, r'layers=\(\)'),
    ({'layers': 3}, r'layers=3'),
    ({'layers': (0, 0)}, r'layers=\(0, 0\)'),
    ({'layers': (-1,)}, r'layers=\(-1,\)'),
    ({'layers': (0.5,)}, r'layers=\(0\.5,\)'),
    ({'alpha': 0.0}, r'alpha=0\.0'),
    ({'pairing': 'dice'}, r"pairing='dice'"),
    ({'batch': 0}, r'batch=0'),
    ({'batch': 2.5}, r'batch=2\.5'),
  ],
)
def test_invalid_options_are_refused(options, message):
  batch = options.pop('batch', 4)
  with pytest.raises(ValueError, match=message):
    jaxmix.draw_manifold_mixup(jax.random.key(0), batch, **options)


def test_a_traced_alpha_out_of_range_gives_nan():
  draw = jax.jit(
    lambda alpha: (
      jaxmix.draw_manifold_mixup(jax.random.key(0), 4, alpha=alpha).lam
    )
  )
  assert jnp.isnan(draw(-1.0)).all()
