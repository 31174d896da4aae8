"""Retrieval metrics: ranks, recall@K, median rank, MRR, bootstrap intervals.

A rank is 0-based and pessimistic: a candidate with another id at the same
distance as the correct one is ahead of it. A model that maps everything to one
point therefore scores R@K = 0; an optimistic count would give it 1.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from numpy.typing import ArrayLike

_HALF_ULP = 2.0**-24  # relative rounding error of float32


def ranks(
  queries: ArrayLike,
  candidates: ArrayLike,
  query_ids: ArrayLike,
  candidate_ids: ArrayLike,
  *,
  block_size: int = 1024,
  axis: str | None = None,
) -> jax.Array:
  """Returns the rank of the nearest correct candidate of each query.

  A candidate is correct if its id is that of the query. The rank is the number
  of other candidates that are at most as far away. Swap the arguments for image
  to text: of several captions of an image the nearest counts. Distances are
  squared Euclidean, in float32. Only matrices of `block_size` x `block_size`
  are in memory, never Q x N, and ranks do not depend on `block_size`.

  A NaN distance counts as infinite: a NaN query or correct candidate has all
  others ahead of it, and a NaN candidate is ahead of nothing finite.

  Args:
    queries: `[Q, D]`, any floating dtype.
    candidates: `[N, D]`, on the same scale as `queries`.
    query_ids: integer ids `[Q]`; several queries may share one.
    candidate_ids: integer ids `[N]`, of up to 64 bits, but 32 under jit.
    block_size: number of queries, and of candidates, compared at once.
    axis: within `shard_map`, the mesh axis over which the candidates are
      sharded; ranks then count all shards, and candidates with a negative id
      are padding. None if each device has all candidates.

  Returns:
    int32 `[Q]` in 0..N-1. Under jit, a query without correct candidate gets N.

  Raises:
    ValueError: shapes do not match, there are no candidates, `block_size` is
      below 1, or (not checked under jit) no candidate has a query's id.

  >>> candidates = jnp.array([[0.0], [1.0], [2.0]])
  >>> ranks(jnp.array([[0.1], [1.9]]), candidates, [7, 8], [7, 8, 9])
  Array([0, 1], dtype=int32)
  >>> ranks(jnp.array([[0.1], [1.9]]), 0 * candidates, [7, 8], [7, 8, 9])
  Array([2, 2], dtype=int32)
  """
  _check_shapes(queries, candidates, query_ids, candidate_ids, block_size)
  if not any(isinstance(ids, Tracer) for ids in (query_ids, candidate_ids)):
    query_ids, candidate_ids = _dense_ids(query_ids, candidate_ids)
  if not np.shape(queries)[0]:
    return jnp.zeros(0, jnp.int32)
  arrays = map(jnp.asarray, (queries, candidates, query_ids, candidate_ids))
  return _ranks(*arrays, block_size=block_size, axis=axis)


def _check_shapes(queries, candidates, query_ids, candidate_ids, block_size):
  q, g = np.shape(queries), np.shape(candidates)
  if len(q) != 2 or len(g) != 2 or q[1] != g[1]:
    raise ValueError(
      f'queries {q} and candidates {g} must be [Q, D] and [N, D] with equal D'
    )
  if not g[0]:
    raise ValueError(f'candidates {g} is empty: give at least one candidate')
  for name, ids, rows in (
    ('query_ids', query_ids, q[0]),
    ('candidate_ids', candidate_ids, g[0]),
  ):
    if np.shape(ids) != (rows,):
      raise ValueError(
        f'{name} has shape {np.shape(ids)}; it must be ({rows},)'
      )
  _check_whole('block_size', block_size)


def _check_whole(name: str, value: Any) -> None:
  """Raises ValueError unless `value` is a whole number of 1 or more."""
  if isinstance(value, jax.Array):
    return
  if not isinstance(value, int | np.integer) or value < 1:
    raise ValueError(f'{name}={value!r} must be a whole number of 1 or more')


def _dense_ids(query_ids, candidate_ids) -> tuple[np.ndarray, np.ndarray]:
  """Renumbers ids from 0, because jax would truncate 64-bit ids to 32 bits."""
  query_ids, candidate_ids = np.asarray(query_ids), np.asarray(candidate_ids)
  known = np.unique(candidate_ids)
  missing = np.flatnonzero(~np.isin(query_ids, known))
  if missing.size:
    raise ValueError(
      f'query_ids[{missing[0]}]={query_ids[missing[0]]} is not in '
      f'candidate_ids ({missing.size} such queries): leave these queries out'
    )
  return (
    np.searchsorted(known, query_ids).astype(np.int32),
    np.searchsorted(known, candidate_ids).astype(np.int32),
  )


@partial(jax.jit, static_argnames=('block_size', 'axis'))
def _ranks(queries, candidates, query_ids, candidate_ids, *, block_size, axis):
  count, total = len(queries), len(candidates)
  # Loop carries must be typed as varying: each device counts its own shard.
  queries, query_ids = lax.pcast((queries, query_ids), axis or (), to='varying')
  # Candidates with equal ids are adjacent in this order.
  order = jnp.argsort(candidate_ids).astype(jnp.int32)
  first = jnp.searchsorted(candidate_ids[order], query_ids, side='left')
  last = jnp.searchsorted(candidate_ids[order], query_ids, side='right')
  width = min(block_size, total)
  starts = jnp.arange(0, total, width)

  def rank_block(block):
    query, query_id, first, last = block
    query = query.astype(jnp.float32)
    own = _nearest_own(query, candidates, order, first, last)
    own = lax.pmin(own, axis) if axis else own

    def count_ahead(ahead, start):
      # The last block starts early; what was counted before is masked.
      begin = jnp.minimum(start, total - width)
      index = begin + jnp.arange(width)
      block_ids = lax.dynamic_slice_in_dim(candidate_ids, begin, width)
      other = (query_id[:, None] != block_ids) & (index >= start)
      other &= (block_ids >= 0) | (not axis)
      candidate = lax.dynamic_slice_in_dim(candidates, begin, width)
      return ahead + _count_ahead(query, candidate, own, other), None

    zeros = jnp.zeros_like(query_id, jnp.int32)
    return lax.psum(lax.scan(count_ahead, zeros, starts)[0], axis or ())

  rows = min(block_size, count)
  blocks = jax.tree.map(
    lambda x: jnp.pad(
      x, [(0, -count % rows), *[(0, 0)] * (x.ndim - 1)]
    ).reshape(-1, rows, *x.shape[1:]),
    (queries, query_ids, first, last),
  )
  return lax.map(rank_block, blocks).reshape(-1)[:count]


def _distance(query: jax.Array, candidate: jax.Array) -> jax.Array:
  """Returns the reference distances `[B]` of `[B, D]` pairs, NaN as inf."""
  distance = jnp.sum(jnp.square(query - candidate.astype(jnp.float32)), -1)
  return jnp.where(jnp.isnan(distance), jnp.inf, distance)


def _nearest_own(query, candidates, order, first, last):
  """Returns the distance of each query to its nearest correct candidate."""

  def nearer(step, nearest):
    row = jnp.minimum(first + step, last - 1)
    distance = _distance(query, candidates[order[row]])
    return jnp.where(first < last, jnp.minimum(nearest, distance), nearest)

  nearest = jnp.full_like(query[:, 0], jnp.inf)
  return lax.fori_loop(0, jnp.max(last - first), nearer, nearest)


def _count_ahead(query, candidate, own, other):
  """Counts candidates of a block that are `other` and at most `own` away.

  One matrix product decides every comparison that differs by more than its
  rounding error. The rest is compared with `_distance`, as `own` was computed,
  because a product may round equal rows differently: usually a few candidates,
  but all of them for a collapsed model.
  """
  candidate = candidate.astype(jnp.float32)
  square = jnp.sum(query**2, -1)[:, None] + jnp.sum(candidate**2, -1)
  product = jnp.matmul(query, candidate.T, precision=lax.Precision.HIGHEST)
  margin = square - 2 * product - own[:, None]
  # The error of a sum of D terms is at most D roundings of their absolute sum.
  slack = 2 * (query.shape[1] + 4) * _HALF_ULP * square
  # Everything is ahead of an infinite distance; NaN is behind everything.
  ahead = (margin < -slack) | jnp.isinf(own)[:, None]
  behind = (margin > slack) | jnp.isnan(candidate).any(-1)
  unsure = other & ~ahead & ~behind

  def decide_few(unsure, count):
    def decide_one_each(state):
      unsure, count = state
      index = jnp.argmax(unsure, -1)
      row = jnp.arange(len(query))
      tie = unsure[row, index] & (_distance(query, candidate[index]) <= own)
      return unsure.at[row, index].set(False), count + tie

    state = unsure, count
    return lax.while_loop(lambda s: s[0].any(), decide_one_each, state)[1]

  def decide_many(unsure, count):
    def decide_one(count, column):
      candidate, unsure = column
      return count + (unsure & (_distance(query, candidate) <= own)), None

    return lax.scan(decide_one, count, (candidate, unsure.T))[0]

  few = jnp.sum(unsure, -1).max() <= len(candidate) // 32
  count = jnp.sum(other & ahead, -1, dtype=jnp.int32)
  return lax.cond(few, decide_few, decide_many, unsure, count)


def recall_at(ranks: ArrayLike, k: int) -> float:
  """Returns R@K, the fraction of queries with a correct candidate in the top K.

  Raises:
    ValueError: k is not a whole number of 1 or more.

  >>> recall_at([0, 4, 9, 10], 10)
  0.75
  """
  _check_whole('k', k)
  return float(np.mean(np.asarray(ranks) < k))


def median_rank(ranks: ArrayLike) -> float:
  """Returns the median rank, counted from 1 as in papers.

  >>> median_rank([0, 2, 9])
  3.0
  """
  return float(np.median(np.asarray(ranks))) + 1


def mean_reciprocal_rank(ranks: ArrayLike) -> float:
  """Returns the mean of 1 / rank with ranks counted from 1, in (0, 1].

  >>> mean_reciprocal_rank([0, 1])
  0.75
  """
  return float(np.mean(1 / (np.asarray(ranks) + 1)))


def summary(
  ranks: ArrayLike, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
  """Returns R@K, the 95 % interval of the last R@K, median rank and MRR.

  Args:
    ranks: `[Q]` or `[G, K]`, see `bootstrap`.
    ks: cut-offs of R@K.

  Raises:
    ValueError: `ranks` or `ks` is empty, or a cut-off is not a whole number of
      1 or more.

  >>> list(summary([0, 4, 9, 10]))[2:]
  ['recall@10', 'recall@10_low', 'recall@10_high', 'median_rank', 'mrr']
  """
  if not len(ks):
    raise ValueError(f'ks={ks!r} is empty: give at least one cut-off')
  last = partial(recall_at, k=ks[-1])
  low, high = bootstrap(jax.random.key(0), ranks, last)
  return {
    **{f'recall@{k}': recall_at(ranks, k) for k in ks},
    f'recall@{ks[-1]}_low': low,
    f'recall@{ks[-1]}_high': high,
    'median_rank': median_rank(ranks),
    'mrr': mean_reciprocal_rank(ranks),
  }


def bootstrap(
  key: jax.Array,
  ranks: ArrayLike,
  statistic: Callable[[np.ndarray], float],
  *,
  samples: int = 1000,
  level: float = 0.95,
) -> tuple[float, float]:
  """Returns a bootstrap percentile interval of a statistic.

  The five captions of an image are not five independent queries. Pass their
  ranks as one row of `[G, K]`, so that images are resampled with all captions.

  Args:
    key: random key; the same key gives the same interval.
    ranks: `[Q]`, or `[G, K]` whose rows are resampled together.
    statistic: function of an array like `ranks`.
    samples: number of bootstrap samples, drawn with replacement.
    level: coverage probability of the interval, between 0 and 1.

  Returns:
    The lower and the upper end.

  Raises:
    ValueError: `ranks` is empty, or an option is out of range.

  >>> ranks = np.arange(100) % 10
  >>> low, high = bootstrap(jax.random.key(0), ranks, mean_reciprocal_rank)
  >>> low < mean_reciprocal_rank(ranks) < high
  True
  """
  _check_whole('samples', samples)
  if not 0 < level < 1:
    raise ValueError(f'level={level!r} must lie between 0 and 1')
  values = np.asarray(ranks)
  if not values.size:
    raise ValueError(f'ranks is empty: its shape is {values.shape}')
  # On the host, because jax would compile each statistic.
  rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
  size = len(values)
  drawn = [
    statistic(values[rng.integers(0, size, size)]) for _ in range(samples)
  ]
  tail = (1 - level) / 2
  low, high = np.quantile(drawn, [tail, 1 - tail])
  return float(low), float(high)
