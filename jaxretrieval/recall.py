"""Ranks of the right items, the usual statistics of them, and their noise.

A rank is 0-based and pessimistic: an item of another id at the same distance
as the right one is ahead of it. So a model that maps everything to one point
scores R@K = 0; by an optimistic count it would score 1.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from numpy.typing import ArrayLike

_HALF_ULP = 2.0**-24  # relative rounding error of float32


def ranks(
  queries: ArrayLike,
  gallery: ArrayLike,
  query_ids: ArrayLike,
  gallery_ids: ArrayLike,
  *,
  block_size: int = 1024,
  axis: str | None = None,
) -> jax.Array:
  """How many items of other ids are at most as far as the nearest own item.

  Text to image and image to text are one call with the arguments swapped: of
  several captions of an image the nearest counts. Distances are squared and
  Euclidean, in float32. There is never a Q x N matrix, only a few of
  `block_size` x `block_size`, and the ranks do not depend on `block_size`.

  A distance that is NaN counts as infinite, so a NaN query or own item has all
  others ahead of it, and a NaN item is ahead of nothing finite.

  Args:
    queries: `[Q, D]`, any float type.
    gallery: `[N, D]`, in the units of `queries`.
    query_ids: `[Q]` what each query is about; several may share one.
    gallery_ids: `[N]` the same of items. Up to 64 bits, but 32 under jit.
    block_size: queries and items that are compared at once.
    axis: within `shard_map`, the axis over which the gallery is split; ranks
      are those in the whole, and items of an id below 0 only fill up parts.

  Returns:
    int32 `[Q]` in 0..N-1. Under jit, a query without own item gets N.

  Raises:
    ValueError: shapes that do not fit, an empty gallery, a block size below 1,
      or (not seen under jit) a query whose id is not in the gallery.

  >>> gallery = jnp.array([[0.0], [1.0], [2.0]])
  >>> ranks(jnp.array([[0.1], [1.9]]), gallery, [7, 8], [7, 8, 9])
  Array([0, 1], dtype=int32)
  >>> ranks(jnp.array([[0.1], [1.9]]), 0 * gallery, [7, 8], [7, 8, 9])
  Array([2, 2], dtype=int32)
  """
  _check_shapes(queries, gallery, query_ids, gallery_ids, block_size)
  if not any(isinstance(ids, Tracer) for ids in (query_ids, gallery_ids)):
    query_ids, gallery_ids = _dense_ids(query_ids, gallery_ids)
  if not np.shape(queries)[0]:
    return jnp.zeros(0, jnp.int32)
  arrays = map(jnp.asarray, (queries, gallery, query_ids, gallery_ids))
  return _ranks(*arrays, block_size=block_size, axis=axis)


def _check_shapes(queries, gallery, query_ids, gallery_ids, block_size):
  q, g = np.shape(queries), np.shape(gallery)
  if len(q) != 2 or len(g) != 2 or q[1] != g[1]:
    raise ValueError(
      f'queries {q} and gallery {g} must be [Q, D] and [N, D] of one D'
    )
  if not g[0]:
    raise ValueError(f'gallery {g} has no items')
  for name, ids, rows in (
    ('query_ids', query_ids, q[0]),
    ('gallery_ids', gallery_ids, g[0]),
  ):
    if np.shape(ids) != (rows,):
      raise ValueError(f'{name} has shape {np.shape(ids)}, expected ({rows},)')
  if block_size < 1:
    raise ValueError(f'block_size is {block_size}, expected 1 or more')


def _dense_ids(query_ids, gallery_ids) -> tuple[np.ndarray, np.ndarray]:
  """Numbers the ids from 0: jax would cut 64-bit ids to their lower half."""
  query_ids, gallery_ids = np.asarray(query_ids), np.asarray(gallery_ids)
  known = np.unique(gallery_ids)
  missing = np.flatnonzero(~np.isin(query_ids, known))
  if missing.size:
    raise ValueError(
      f'query {missing[0]} has id {query_ids[missing[0]]}, which no item of '
      f'the gallery has ({missing.size} such queries); leave them out'
    )
  return (
    np.searchsorted(known, query_ids).astype(np.int32),
    np.searchsorted(known, gallery_ids).astype(np.int32),
  )


@partial(jax.jit, static_argnames=('block_size', 'axis'))
def _ranks(queries, gallery, query_ids, gallery_ids, *, block_size, axis):
  count, items = len(queries), len(gallery)
  # For the types of loops: what devices count of their parts differs.
  queries, query_ids = lax.pcast((queries, query_ids), axis or (), to='varying')
  # The items of an id are neighbours in this order.
  order = jnp.argsort(gallery_ids).astype(jnp.int32)
  first = jnp.searchsorted(gallery_ids[order], query_ids, side='left')
  last = jnp.searchsorted(gallery_ids[order], query_ids, side='right')
  width = min(block_size, items)
  starts = jnp.arange(0, items, width)

  def rank_block(block):
    query, query_id, first, last = block
    query = query.astype(jnp.float32)
    own = _nearest_own(query, gallery, order, first, last)
    own = lax.pmin(own, axis) if axis else own

    def count_ahead(ahead, start):
      # The last block begins early and leaves out what was counted before.
      begin = jnp.minimum(start, items - width)
      index = begin + jnp.arange(width)
      item_id = lax.dynamic_slice_in_dim(gallery_ids, begin, width)
      other = (query_id[:, None] != item_id) & (index >= start)
      other &= (item_id >= 0) | (not axis)
      item = lax.dynamic_slice_in_dim(gallery, begin, width)
      return ahead + _count_ahead(query, item, own, other), None

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


def _distance(query: jax.Array, item: jax.Array) -> jax.Array:
  """The one arithmetic that decides: `[B, D], [B, D] -> [B]`; NaN is inf."""
  distance = jnp.sum(jnp.square(query - item.astype(jnp.float32)), -1)
  return jnp.where(jnp.isnan(distance), jnp.inf, distance)


def _nearest_own(query, gallery, order, first, last):
  """Distance of each query to the nearest of `order[first:last]`."""

  def nearer(step, nearest):
    row = jnp.minimum(first + step, last - 1)
    distance = _distance(query, gallery[order[row]])
    return jnp.where(first < last, jnp.minimum(nearest, distance), nearest)

  nearest = jnp.full_like(query[:, 0], jnp.inf)
  return lax.fori_loop(0, jnp.max(last - first), nearer, nearest)


def _count_ahead(query, item, own, other):
  """How many items of a block are `other` and at most `own` away, `[B]`.

  One matrix product settles all that is further from a tie than it is inexact.
  The rest is decided by the arithmetic that gave `own`, since a product may
  round equal rows unequally: a few, or all of a model that has collapsed.
  """
  item = item.astype(jnp.float32)
  square = jnp.sum(query**2, -1)[:, None] + jnp.sum(item**2, -1)
  product = jnp.matmul(query, item.T, precision=lax.Precision.HIGHEST)
  margin = square - 2 * product - own[:, None]
  # A sum of D terms is off by at most D roundings of their absolute sum.
  slack = 2 * (query.shape[1] + 4) * _HALF_ULP * square
  # Nothing is behind an infinite distance, and NaN is behind all others.
  ahead = (margin < -slack) | jnp.isinf(own)[:, None]
  behind = (margin > slack) | jnp.isnan(item).any(-1)
  unsure = other & ~ahead & ~behind

  def decide_few(unsure, count):
    def decide_one_each(state):
      unsure, count = state
      index = jnp.argmax(unsure, -1)
      row = jnp.arange(len(query))
      tie = unsure[row, index] & (_distance(query, item[index]) <= own)
      return unsure.at[row, index].set(False), count + tie

    state = unsure, count
    return lax.while_loop(lambda s: s[0].any(), decide_one_each, state)[1]

  def decide_many(unsure, count):
    def decide_item(count, column):
      item, unsure = column
      return count + (unsure & (_distance(query, item) <= own)), None

    return lax.scan(decide_item, count, (item, unsure.T))[0]

  few = jnp.sum(unsure, -1).max() <= len(item) // 32
  count = jnp.sum(other & ahead, -1, dtype=jnp.int32)
  return lax.cond(few, decide_few, decide_many, unsure, count)


def recall_at(ranks: ArrayLike, k: int) -> float:
  """R@K: the fraction of queries with an own item among the K nearest.

  >>> recall_at([0, 4, 9, 10], 10)
  0.75
  """
  return float(np.mean(np.asarray(ranks) < k))


def median_rank(ranks: ArrayLike) -> float:
  """Median rank, counted from 1 as papers do: 1 is the best.

  >>> median_rank([0, 2, 9])
  3.0
  """
  return float(np.median(np.asarray(ranks))) + 1


def mean_reciprocal_rank(ranks: ArrayLike) -> float:
  """Mean of 1 / rank with ranks counted from 1, in (0, 1].

  >>> mean_reciprocal_rank([0, 1])
  0.75
  """
  return float(np.mean(1 / (np.asarray(ranks) + 1)))


def summary(
  ranks: ArrayLike, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
  """The usual statistics, with the 95 % interval of R@K of the last K.

  Args:
    ranks: `[Q]` or `[G, K]`, see `bootstrap`.
    ks: cut-offs of R@K.

  Raises:
    ValueError: no ranks.

  >>> list(summary([0, 4, 9, 10]))[2:]
  ['recall@10', 'recall@10_low', 'recall@10_high', 'median_rank', 'mrr']
  """
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
  """Percentile interval of a statistic over draws of the queries.

  The five captions of an image are no five independent queries. Give their
  ranks as a row of `[G, K]`, so that images are drawn with all of theirs.

  Args:
    key: random key; the same key gives the same interval.
    ranks: `[Q]`, or `[G, K]` whose rows are drawn together.
    statistic: of an array like `ranks`.
    samples: number of draws with replacement.
    level: probability that the interval holds.

  Returns:
    Lower and upper end.

  Raises:
    ValueError: no ranks.

  >>> ranks = np.arange(100) % 10
  >>> low, high = bootstrap(jax.random.key(0), ranks, mean_reciprocal_rank)
  >>> low < mean_reciprocal_rank(ranks) < high
  True
  """
  values = np.asarray(ranks)
  if not values.size:
    raise ValueError(f'ranks has shape {values.shape}: nothing to draw from')
  # On the host: in jax each statistic would cost a compilation.
  rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
  size = len(values)
  drawn = [
    statistic(values[rng.integers(0, size, size)]) for _ in range(samples)
  ]
  tail = (1 - level) / 2
  low, high = np.quantile(drawn, [tail, 1 - tail])
  return float(low), float(high)
