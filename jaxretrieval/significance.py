"""Two runs on the same queries: how far apart, and is it more than chance?

Pure, like `recall`: needs jax alone.
"""

from typing import NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from jaxretrieval import recall


class PairedTest(NamedTuple):
  """Run A against run B on the same queries.

  Attributes:
    difference: R@K of A less that of B.
    low: lower end of its 95 % bootstrap interval.
    high: upper end.
    p_value: of the exact two-sided McNemar test.
    only_a: queries that A alone has among the K nearest.
    only_b: queries that B alone has.
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
  """Is R@K of two runs on the same queries further apart than chance has it?

  Queries that both or neither find say nothing; McNemar's exact test asks
  whether the others are split as a fair coin would.

  Args:
    key: random key of the bootstrap.
    ranks_a: `[Q]` or `[G, K]`, see `recall.bootstrap`. The p-value always
      takes the queries as independent.
    ranks_b: the same queries in the same order.
    k: cut-off.

  Raises:
    ValueError: the shapes differ, or there are no ranks.

  >>> test = paired_test(jax.random.key(0), [0] * 8, [0, 0, 0] + [99] * 5)
  >>> test.difference, test.only_a, test.only_b, test.p_value
  (0.625, 5, 0, 0.0625)
  """
  a, b = np.asarray(ranks_a) < k, np.asarray(ranks_b) < k
  if a.shape != b.shape:
    raise ValueError(
      f'ranks_a {a.shape} and ranks_b {b.shape} are not of the same queries'
    )
  gain = a.astype(np.float32) - b
  low, high = recall.bootstrap(key, gain, np.mean)
  only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
  return PairedTest(
    float(gain.mean()), low, high, _fair_coin(only_a, only_b), only_a, only_b
  )


def _fair_coin(heads: int, tails: int) -> float:
  """Two-sided probability of a split at least as uneven, in exact integers."""
  tosses, term, total = heads + tails, 1, 0
  for i in range(min(heads, tails) + 1):
    total += term
    term = term * (tosses - i) // (i + 1)
  return min(1.0, 2 * total / 2**tosses)
