"""Tests of lambda ~ Beta(alpha, alpha), through Mixup."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxmix
from jaxmix._src.ratio import draw_ratio, nan_if_invalid
from tests.jaxmix import drawn, reference

MANY = 20_000
ALPHAS = (0.2, 0.4, 1.0, 2.0)


@functools.cache
def draws(granularity):
  """One program for every alpha: it is an argument (a schedule may be, too)."""
  if granularity == 'sample':
    shape, keys = (MANY, 1, 1), jax.random.split(jax.random.key(0), 1)
  else:
    shape, keys = (2, 1, 1), jax.random.split(jax.random.key(1), MANY)

  def lam(key, alpha):
    mix = jaxmix.draw_mixup(
      key, shape, alpha=alpha, granularity=granularity, pairing='roll'
    )
    return mix.lam

  run = drawn.quick(jax.vmap(lam, in_axes=(0, None)))
  return {alpha: np.asarray(run(keys, jnp.float32(alpha))) for alpha in ALPHAS}


def ks_below_one(sample, cdf):
  """Kolmogorov-Smirnov p-value, from the part of the sample below 1 - 1e-5.

  float32 has numbers as near to 0 as one likes but none between 1 - 6e-8 and
  1. At alpha=.2 every fiftieth draw is rounded to 1.0 exactly, and the plain
  test would rightly see that atom. The largest distance over a part of the
  line is never more than over the whole line: the p-value is an upper bound
  if the distribution is right, and a wrong one is still seen.
  """
  sample = np.sort(sample)
  n = len(sample)
  steps = np.arange(n + 1) / n
  part = sample < 1 - 1e-5
  above = np.abs(steps[1:][part] - cdf(sample[part]))
  below = np.abs(steps[:-1][part] - cdf(sample[part]))
  return stats.kstwo.sf(max(above.max(), below.max()), n)


@pytest.mark.parametrize('alpha', ALPHAS)
@pytest.mark.parametrize('granularity', drawn.GRANULARITIES)
def test_lam_is_beta(alpha, granularity):
  lam = draws(granularity)[alpha]
  if granularity == 'batch':
    assert (lam[:, 0] == lam[:, 1]).all(), 'a batch has two lambdas'
    lam = lam[:, 0]
  lam = lam.ravel()
  assert lam.dtype == np.float32 and len(lam) == MANY
  assert 0 <= lam.min() and lam.max() <= 1, 'lambda outside [0, 1], or NaN'
  p = ks_below_one(lam, stats.beta(alpha, alpha).cdf)
  assert p > 1e-4, f'not Beta({alpha}, {alpha}) (p={p:.1e})'
  # The mirrored sample has its atom at 0 instead; its upper half is exact.
  p = ks_below_one(1 - lam[lam <= 0.5], lambda x: upper_half(alpha, x))
  assert p > 1e-4, f'not Beta({alpha}, {alpha}) near 0 (p={p:.1e})'
  # Four standard errors of a mean; variance: 1 / (8 alpha + 4).
  assert abs(lam.mean() - 0.5) < 4 * np.sqrt(1 / (8 * alpha + 4) / MANY)


def upper_half(alpha, x):
  """Cdf of Beta(alpha, alpha) given that it lies above one half."""
  return 2 * stats.beta(alpha, alpha).cdf(x) - 1


@pytest.mark.parametrize('alpha', ALPHAS)
def test_samples_are_independent(alpha):
  lam = draws('sample')[alpha].ravel()
  r = np.corrcoef(lam[:-1], lam[1:])[0, 1]
  assert abs(r) * np.sqrt(MANY) < 4.5, f'neighbours correlate ({r:.4f})'


def test_alpha_one_is_uniform():
  # A Python 1.0 takes the uniform sampler.
  ratio = drawn.quick(functools.partial(draw_ratio, count=MANY, alpha=1.0))
  lam = np.asarray(ratio(jax.random.key(2)))
  p = reference.p_value(stats.kstest(lam, 'uniform'))
  assert p > 1e-4, f'not uniform (p={p:.1e})'


@pytest.mark.parametrize('one', [1, 1.0, np.float32(1), np.int64(1)])
def test_alpha_one_in_any_number_type_is_one_uniform_draw(one):
  ratio = functools.partial(draw_ratio, count=3, alpha=one)
  want = jax.random.uniform(jax.random.key(0), (3,), jnp.float32)
  np.testing.assert_array_equal(ratio(jax.random.key(0)), want)


@pytest.mark.parametrize('alpha', [1e-4, 0.01, 50.0, 1e6])
def test_an_extreme_alpha_gives_no_nan(alpha):
  ratio = drawn.quick(functools.partial(draw_ratio, count=MANY))
  lam = np.asarray(ratio(jax.random.key(3), alpha=jnp.float32(alpha)))
  assert 0 <= lam.min() and lam.max() <= 1, 'lambda outside [0, 1], or NaN'
  # The variance; 5 % is 3.5 standard errors at the widest.
  assert np.var(lam) == pytest.approx(1 / (8 * alpha + 4), rel=0.05)


@pytest.mark.parametrize('alpha', [-1.0, 0.0, np.nan])
def test_a_traced_alpha_out_of_range_gives_nan(alpha):
  lam = jnp.full(3, 0.25)
  checked = jax.jit(nan_if_invalid)
  np.testing.assert_array_equal(checked(lam, 0.5), lam)
  assert np.isnan(checked(lam, alpha)).all()
