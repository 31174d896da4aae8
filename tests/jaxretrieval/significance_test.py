"""The paired test compared with scipy, and its power."""

import jax
import numpy as np
import pytest
import scipy.stats

from jaxretrieval import significance


@pytest.mark.parametrize(
  ('only_a', 'only_b'), [(0, 0), (1, 0), (3, 4), (5, 5), (9, 30), (700, 900)]
)
def test_p_value_is_that_of_an_exact_binomial_test(only_a, only_b):
  a = [0] * only_a + [99] * only_b + [0] * 20 + [99] * 10
  b = [99] * only_a + [0] * only_b + [0] * 20 + [99] * 10
  result = significance.paired_test(jax.random.key(0), a, b)
  assert (result.only_a, result.only_b) == (only_a, only_b)
  expected = 1.0
  if only_a + only_b:
    expected = scipy.stats.binomtest(only_a, only_a + only_b).pvalue
  assert result.p_value == pytest.approx(expected, rel=1e-9)


def test_interval_is_of_the_difference_and_narrower_than_of_two_samples():
  # Runs that agree on all queries but 40 of 1,000.
  rng = np.random.default_rng(0)
  a = rng.integers(0, 20, 1000)
  b = np.where(np.arange(1000) % 25 == 0, 99, a)
  result = significance.paired_test(jax.random.key(0), a, b, k=10)
  assert result.difference == pytest.approx(
    (a < 10).mean() - (b < 10).mean(), abs=1e-6
  )
  assert 0 < result.low < result.difference < result.high
  # Unpaired, at p = .5 and n = 1,000, it would be 8.8 points wide.
  assert result.high - result.low < 0.03
  assert result.p_value < 0.001
  swapped = significance.paired_test(jax.random.key(0), b, a, k=10)
  assert swapped.difference == pytest.approx(-result.difference, abs=1e-6)
  assert swapped.p_value == result.p_value


def test_queries_must_be_the_same():
  with pytest.raises(ValueError, match='^k=0'):
    significance.paired_test(jax.random.key(0), [0, 1], [0, 1], k=0)
  with pytest.raises(ValueError, match=r'ranks_a \(3,\) and ranks_b \(2,\)'):
    significance.paired_test(jax.random.key(0), [0, 1, 2], [0, 1])
