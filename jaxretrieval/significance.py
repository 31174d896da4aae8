"""Paired significance test of two runs on the same queries (needs only jax)."""

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxretrieval import recall


class PairedTest(NamedTuple):
  """Comparison of run A with run B on the same queries.

  Attributes:
    difference: R@K of A minus R@K of B.
    low: lower end of the 95 % bootstrap interval of `difference`.
    high: upper end of that interval.
    p_value: p-value of the exact two-sided McNemar test.
    only_a: number of queries that only A answers in its top K.
    only_b: number of queries that only B answers in its top K.
  """

  difference: float
  low: float
  high: float
  p_value: float
  only_a: int
  only_b: int


def paired_test(
  key: jax.Array,
  ranks_a: ArrayLike,
  ranks_b: ArrayLike,
  k: int = 10,
) -> PairedTest:
  """Tests whether R@K of two runs on the same queries differs by chance.

  McNemar's exact test considers the queries that exactly one run answers, and
  tests whether they are split as by a fair coin.

  Args:
    key: random key of the bootstrap.
    ranks_a: `[Q]` or `[G, K]`, see `recall.bootstrap`. The p-value treats all
      queries as independent in either case.
    ranks_b: ranks of the same queries in the same order.
    k: cut-off of R@K.

  Raises:
    ValueError: the shapes differ, there are no ranks, or k is not a whole
      number of 1 or more.

  >>> test = paired_test(jax.random.key(0), [0] * 8, [0, 0, 0] + [99] * 5)
  >>> test.difference, test.only_a, test.only_b, test.p_value
  (0.625, 5, 0, 0.0625)
  """
  if not isinstance(k, int | np.integer) or k < 1:
    raise ValueError(f'k={k!r} must be a whole number of 1 or more')
  a, b = np.asarray(ranks_a) < k, np.asarray(ranks_b) < k
  if a.shape != b.shape:
    raise ValueError(
      f'ranks_a {a.shape} and ranks_b {b.shape} must have one shape: both are '
      'ranks of the same queries'
    )
  gain = a.astype(np.float32) - b
  low, high = recall.bootstrap(key, gain, np.mean)
  only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
  return PairedTest(
    float(gain.mean()), low, high, _fair_coin(only_a, only_b), only_a, only_b
  )


def _fair_coin(heads: int, tails: int) -> float:
  """Returns the exact two-sided probability of a split at least as uneven."""
  tosses, term, total = heads + tails, 1, 0
  for i in range(min(heads, tails) + 1):
    total += term
    term = term * (tosses - i) // (i + 1)
  return min(1.0, 2 * total / 2**tosses)
