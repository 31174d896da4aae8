"""Negative mining on the device.

A miner selects, for every anchor text, one candidate image of another anchor.
The candidates are the images of the batch, or a bank of all training images,
which never becomes stale because image features are frozen. The caption of the
selected image is the negative text. Candidates that show the anchor's own image
or have its caption are never selected.

Selection has no gradient. The losses compute the distances of the selected
candidates again.

`mine` draws random bits for each anchor; `select` is deterministic and treats
each anchor independently, so that anchors can be sharded over devices.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

MINERS = ('hardest', 'semihard', 'topk_random', 'random')


class Items(NamedTuple):
  """Anchors or candidates of a miner.

  Attributes:
    features: `[N, D]`.
    image_ids: int32 `[N]`; items with equal ids are never paired.
    caption_ids: int32 `[N]`; items with equal ids are never paired. None if
      captions are not compared.
  """

  features: jax.Array
  image_ids: jax.Array
  caption_ids: jax.Array | None = None


class Negatives(NamedTuple):
  """The selected candidates.

  Attributes:
    index: int32 `[B]`, rows of the candidates; 0 where `valid` is False.
    valid: bool `[B]`, False where every candidate was excluded.
  """

  index: jax.Array
  valid: jax.Array


def mine(
  key: jax.Array,
  anchors: Items,
  candidates: Items,
  *,
  miner: str = 'hardest',
  ranks: tuple[int, int] = (0, 10),
  positive: jax.Array | None = None,
  block_size: int = 4096,
) -> Negatives:
  """Selects one negative for every anchor.

  Args:
    key: a JAX key.
    anchors: B texts.
    candidates: N images.
    miner: `'hardest'` selects the nearest image; `'semihard'` the nearest one
      beyond the anchor's own image, or the nearest if there is none (Schroff
      et al. 2015, section 3.2); `'topk_random'` draws uniformly from `ranks`;
      `'random'` draws uniformly from all images.
    ranks: `(first, last)` for `'topk_random'`: the half-open range of ranks to
      draw from; 0 is the nearest. `(10, 100)` on a bank avoids images that the
      caption describes equally well.
    positive: the anchors' own images `[B, D]`, required by `'semihard'`.
    block_size: number of anchors, and of images, whose distances are computed
      at once. A larger distance matrix is never in memory. The selection does
      not depend on it, including ties (the lower row wins), provided that the
      matrix products do not.

  Returns:
    The negatives of the B anchors.

  Raises:
    ValueError: an option is out of range, or shapes do not match.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> images = Items(jnp.array([[0.0], [1.0], [5.0]]), jnp.arange(3))
    >>> mine(jax.random.key(0), images, images).index
    Array([1, 0, 1], dtype=int32)
  """
  random_bits = jax.random.bits(key, (len(anchors.features),), jnp.uint32)
  return select(
    random_bits,
    anchors,
    candidates,
    miner=miner,
    ranks=ranks,
    positive=positive,
    block_size=block_size,
  )


def select(
  random_bits: jax.Array,
  anchors: Items,
  candidates: Items,
  *,
  miner: str = 'hardest',
  ranks: tuple[int, int] = (0, 10),
  positive: jax.Array | None = None,
  block_size: int = 4096,
  search: Callable[..., Any] | None = None,
) -> Negatives:
  """Selects negatives as `mine` does, with given random bits.

  Args:
    random_bits: uint32 `[B]`, uniform; `'hardest'` and `'semihard'` ignore
      them.
    anchors: see `mine`.
    candidates: see `mine`.
    miner: see `mine`.
    ranks: see `mine`.
    positive: see `mine`.
    block_size: see `mine`.
    search: `collectives.ring_search(axis)` if `candidates` is the local shard
      of candidates that are sharded over devices; `index` then counts global
      rows. None if `candidates` holds all of them.

  Returns:
    The negatives of the B anchors; each depends on its own anchor only.

  Raises:
    ValueError: an option is out of range, or shapes do not match.

  Examples:
    >>> texts = Items(jnp.array([[2.0]]), jnp.array([1]))
    >>> images = Items(jnp.array([[0.0], [1.0], [5.0]]), jnp.arange(3))
    >>> random_bits = jnp.zeros(1, jnp.uint32)
    >>> select(random_bits, texts, images).index
    Array([0], dtype=int32)
  """
  _check(random_bits, anchors, candidates, miner, ranks, positive, block_size)
  first, last = ranks if miner == 'topk_random' else (0, 1)
  queries = (random_bits, anchors, positive if miner == 'semihard' else None)
  queries, candidates = lax.stop_gradient((queries, candidates))

  def nearest(shard, offset):
    squares = jnp.sum(jnp.square(_promote(shard.features)), axis=-1)

    def search_shard(queries):
      def scores(start, size):
        block, norms = _slice((shard, squares), start, size)
        return _scores(queries, block, norms, offset + start, miner)

      best = _nearest_k(scores, len(squares), last, block_size)
      return [(values, offset + index) for values, index in best]

    return _map_blocks(search_shard, queries, len(random_bits), block_size)

  best = search(nearest, candidates, last) if search else nearest(candidates, 0)
  picks = [_pick(random_bits, values, index, first) for values, index in best]
  index, valid = picks[0]
  for other in picks[1:]:
    index, valid = jnp.where(valid, index, other.index), valid | other.valid
  return Negatives(index, valid)


def _check(
  random_bits, anchors, candidates, miner, ranks, positive, block_size
):
  if miner not in MINERS:
    raise ValueError(f'miner={miner!r} must be one of {", ".join(MINERS)}')
  if miner == 'topk_random' and not (
    len(ranks) == 2
    and all(isinstance(rank, int | np.integer) for rank in ranks)
    and 0 <= ranks[0] < ranks[1]
  ):
    raise ValueError(
      f'ranks={ranks} must be (first, last), whole numbers with '
      '0 <= first < last'
    )
  if not isinstance(block_size, int | np.integer) or block_size < 1:
    raise ValueError(
      f'block_size={block_size!r} must be a whole number of 1 or more'
    )
  if miner == 'semihard' and positive is None:
    raise ValueError(
      "miner='semihard' requires positive, the anchors' own images"
    )
  shape, other = anchors.features.shape, candidates.features.shape
  if len(shape) != 2 or len(other) != 2 or shape[1] != other[1]:
    raise ValueError(
      f'anchors.features {shape} and candidates.features {other} must be '
      '[B, D] and [N, D] with equal D'
    )
  if not len(candidates.features):
    raise ValueError('candidates is empty: give at least one image')
  if positive is not None and positive.shape != shape:
    raise ValueError(
      f'positive has shape {positive.shape}; it must be {shape}, as the anchors'
    )
  for name, array, count in (
    ('random_bits', random_bits, shape[0]),
    ('anchors.image_ids', anchors.image_ids, shape[0]),
    ('anchors.caption_ids', anchors.caption_ids, shape[0]),
    ('candidates.image_ids', candidates.image_ids, other[0]),
    ('candidates.caption_ids', candidates.caption_ids, other[0]),
  ):
    if array is not None and array.shape != (count,):
      raise ValueError(f'{name} has shape {array.shape}; it must be {(count,)}')


def _scores(queries, candidates, squares, start, miner):
  """Returns score matrices `[b, c]` to minimise, in order of preference."""
  random_bits, anchors, positive = queries
  excluded = anchors.image_ids[:, None] == candidates.image_ids[None, :]
  if anchors.caption_ids is not None and candidates.caption_ids is not None:
    excluded |= anchors.caption_ids[:, None] == candidates.caption_ids[None, :]
  if miner == 'random':
    columns = start + jnp.arange(len(squares), dtype=jnp.int32)
    scores = _hashed(random_bits[:, None], columns[None, :])
    return [jnp.where(excluded, math.inf, scores)]
  # |text|^2 is constant within a row; leaving it out avoids cancellation.
  text = _promote(anchors.features)
  scores = squares[None, :] - 2 * jnp.matmul(
    text, _promote(candidates.features).T, precision=lax.Precision.HIGHEST
  )
  # A NaN distance counts as the smallest, so that the loss becomes NaN too.
  scores = jnp.where(scores < math.inf, scores, -math.inf)
  scores = jnp.where(excluded, math.inf, scores)
  if miner != 'semihard':
    return [scores]
  own = _promote(positive)
  own = jnp.sum(own * (own - 2 * text), axis=-1, keepdims=True)
  return [jnp.where(scores > own, scores, math.inf), scores]


def _hashed(seed: jax.Array, column: jax.Array) -> jax.Array:
  """Hashes pairs to pseudo-random numbers in [0, 1) (MurmurHash3 finaliser)."""
  x = seed ^ (column.astype(jnp.uint32) * jnp.uint32(0x9E3779B1))
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return ((x ^ (x >> 16)) >> 8).astype(jnp.float32) / 2**24


def _nearest_k(scores, columns, count, block_size):
  """Returns the `count` smallest of each row of each matrix, sorted.

  Returns:
    `[(values, index)]`. Of equal values the lower column comes first. All
    columns if there are fewer than `count`.
  """
  count = min(count, columns)
  size = min(max(block_size, count), columns)

  def block(first):
    # The last block ends at the last column and overlaps the previous block.
    start = jnp.minimum(first, columns - size)
    index = start + jnp.arange(size, dtype=jnp.int32)
    return [
      _bottom_k(jnp.where(index >= first, values, math.inf), index, count)
      for values in scores(start, size)
    ]

  def step(best, first):
    merged = jax.tree.map(
      lambda *x: jnp.concatenate(x, axis=1), best, block(first)
    )
    return [_bottom_k(values, index, count) for values, index in merged], None

  best = block(jnp.int32(0))
  if size == columns:
    return best
  firsts = jnp.arange(size, columns, size, dtype=jnp.int32)
  return lax.scan(step, best, firsts)[0]


def _bottom_k(values, index, count):
  """Returns the `count` smallest values of each row and their `index`."""
  if count == 1:
    column = jnp.argmin(values, axis=1, keepdims=True)
  else:
    column = lax.top_k(-values, count)[1]
  index = jnp.broadcast_to(index, values.shape)
  return tuple(jnp.take_along_axis(x, column, axis=1) for x in (values, index))


def _pick(random_bits, values, index, first):
  """Draws one valid column from `first` on, or takes the last valid one."""
  count = jnp.sum(values < math.inf, axis=1, dtype=jnp.int32)
  low = jnp.clip(count - 1, 0, first)
  width = jnp.maximum(count - low, 1).astype(jnp.uint32)
  column = low + (random_bits % width).astype(jnp.int32)
  valid = count > 0
  index = jnp.take_along_axis(index, column[:, None], axis=1)[:, 0]
  return Negatives(jnp.where(valid, index, 0), valid)


def _map_blocks(function, rows, count, block_size):
  """Maps a function over blocks of rows, sequentially."""
  if count <= block_size:
    return function(rows)
  starts = jnp.arange(-(-count // block_size), dtype=jnp.int32) * block_size
  starts = jnp.minimum(starts, count - block_size)
  blocks = lax.map(
    lambda start: function(_slice(rows, start, block_size)), starts
  )
  index = starts[:, None] + jnp.arange(block_size)
  return jax.tree.map(
    lambda x: jnp.zeros((count, *x.shape[2:]), x.dtype).at[index].set(x),
    blocks,
  )


def _slice(tree, start, size):
  return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), tree)


def _promote(x: jax.Array) -> jax.Array:
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
