"""Negatives for a batch of texts, found on the device.

A miner picks for every anchor text one image of another anchor: from the batch,
or from a bank of all images, which never goes stale as images are frozen. The
caption of that image is the negative text. Images of the anchor's own picture
and images with its very caption are never picked.

Only the choice is made here and it has no gradient: the losses compute the
distances of what was chosen again, row by row.

Random = draw + apply: `mine` draws a number for each row and `select` is
deterministic and treats each row alone, so that rows may be split over devices.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

MINERS = ('hardest', 'semihard', 'topk_random', 'random')


class Items(NamedTuple):
  """Anchors, or what negatives are picked from.

  Attributes:
    features: `[N, D]`.
    image_ids: int32 `[N]`; equal ids are never paired.
    caption_ids: int32 `[N]`, equal for equal captions, which are never paired;
      None: not compared.
  """

  features: jax.Array
  image_ids: jax.Array
  caption_ids: jax.Array | None = None


class Negatives(NamedTuple):
  """What was picked.

  Attributes:
    index: int32 `[B]`, rows of the gallery; 0 where there is none.
    valid: bool `[B]`, False where every item of the gallery was excluded.
  """

  index: jax.Array
  valid: jax.Array


def mine(
  key: jax.Array,
  anchors: Items,
  gallery: Items,
  *,
  miner: str = 'hardest',
  ranks: tuple[int, int] = (0, 10),
  positive: jax.Array | None = None,
  block_size: int = 4096,
) -> Negatives:
  """Picks one negative for every anchor.

  Args:
    key: a JAX key.
    anchors: the texts, B of them.
    gallery: the images, N of them.
    miner: `'hardest'`, the nearest image; `'semihard'`, the nearest of those
      farther than the anchor's own, or the nearest if there is none (Schroff et
      al. 2015, section 3.2); `'topk_random'`, one of the nearest, all alike;
      `'random'`, one of all, all alike.
    ranks: of `'topk_random'`: picks among the ranks from the first to before
      the second, 0 being the nearest. `(10, 100)` on a bank keeps clear of
      pictures that the caption fits as well.
    positive: the anchors' own images `[B, D]`; `'semihard'` needs them.
    block_size: distances are computed in blocks of so many anchors and images,
      so the whole matrix is never in memory where it is larger. The picks do
      not depend on it, ties included (the lower row wins), as far as the
      products of the matrix unit do not.

  Returns:
    The picks of B rows.

  Raises:
    ValueError: an option is out of range, or shapes do not fit.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> images = Items(jnp.array([[0.0], [1.0], [5.0]]), jnp.arange(3))
    >>> mine(jax.random.key(0), images, images).index
    Array([1, 0, 1], dtype=int32)
  """
  bits = jax.random.bits(key, (len(anchors.features),), jnp.uint32)
  return select(
    bits,
    anchors,
    gallery,
    miner=miner,
    ranks=ranks,
    positive=positive,
    block_size=block_size,
  )


def select(
  bits: jax.Array,
  anchors: Items,
  gallery: Items,
  *,
  miner: str = 'hardest',
  ranks: tuple[int, int] = (0, 10),
  positive: jax.Array | None = None,
  block_size: int = 4096,
  visit: Callable[..., Any] | None = None,
) -> Negatives:
  """Picks as `mine` does, with the chance of each row in `bits`.

  Args:
    bits: uint32 `[B]`, uniform; the first two miners do not use them.
    anchors: see `mine`.
    gallery: see `mine`.
    miner: see `mine`.
    ranks: see `mine`.
    positive: see `mine`.
    block_size: see `mine`.
    visit: `exchange.ring`, if `gallery` is a part of that which `index` counts.

  Returns:
    The picks of B rows; those of a row depend on that row alone.

  Raises:
    ValueError: an option is out of range, or shapes do not fit.

  Examples:
    >>> texts = Items(jnp.array([[2.0]]), jnp.array([1]))
    >>> images = Items(jnp.array([[0.0], [1.0], [5.0]]), jnp.arange(3))
    >>> bits = jnp.zeros(1, jnp.uint32)
    >>> select(bits, texts, images).index
    Array([0], dtype=int32)
  """
  _check(bits, anchors, gallery, miner, ranks, positive, block_size)
  first, last = ranks if miner == 'topk_random' else (0, 1)
  rows = (bits, anchors, positive if miner == 'semihard' else None)
  rows, gallery = lax.stop_gradient((rows, gallery))

  def nearest(part, offset):
    squares = jnp.sum(jnp.square(_wide(part.features)), axis=-1)

    def lists(rows):
      def scores(start, size):
        block, norms = _slice((part, squares), start, size)
        return _scores(rows, block, norms, offset + start, miner)

      found = _least(scores, len(squares), last, block_size)
      return [(values, offset + index) for values, index in found]

    return _by_blocks(lists, rows, len(bits), block_size)

  found = visit(nearest, gallery, last) if visit else nearest(gallery, 0)
  picks = [_pick(bits, values, index, first) for values, index in found]
  index, valid = picks[0]
  for other in picks[1:]:
    index, valid = jnp.where(valid, index, other.index), valid | other.valid
  return Negatives(index, valid)


def _check(bits, anchors, gallery, miner, ranks, positive, block_size):
  if miner not in MINERS:
    raise ValueError(f'miner={miner!r} must be one of {", ".join(MINERS)}')
  if miner == 'topk_random' and not 0 <= ranks[0] < ranks[1]:
    raise ValueError(f'ranks={ranks} must be (first, last), 0 <= first < last')
  if block_size < 1:
    raise ValueError(f'block_size={block_size} must be 1 or more')
  if miner == 'semihard' and positive is None:
    raise ValueError("miner='semihard' needs positive, the anchors' own images")
  shape, other = anchors.features.shape, gallery.features.shape
  if len(shape) != 2 or len(other) != 2 or shape[1] != other[1]:
    raise ValueError(f'features must be [B, D] and [N, D]: {shape}, {other}')
  if not len(gallery.features):
    raise ValueError('the gallery is empty')
  if positive is not None and positive.shape != shape:
    raise ValueError(f'positive must be {shape}, like the anchors')
  for name, array, count in (
    ('bits', bits, shape[0]),
    ('anchors.image_ids', anchors.image_ids, shape[0]),
    ('anchors.caption_ids', anchors.caption_ids, shape[0]),
    ('gallery.image_ids', gallery.image_ids, other[0]),
    ('gallery.caption_ids', gallery.caption_ids, other[0]),
  ):
    if array is not None and array.shape != (count,):
      raise ValueError(f'{name} has shape {array.shape}, not {(count,)}')


def _scores(rows, gallery, squares, start, miner):
  """Matrices `[b, c]` of what is to be least, in order of preference."""
  bits, anchors, positive = rows
  excluded = anchors.image_ids[:, None] == gallery.image_ids[None, :]
  if anchors.caption_ids is not None and gallery.caption_ids is not None:
    excluded |= anchors.caption_ids[:, None] == gallery.caption_ids[None, :]
  if miner == 'random':
    columns = start + jnp.arange(len(squares), dtype=jnp.int32)
    scores = _hashed(bits[:, None], columns[None, :])
    return [jnp.where(excluded, math.inf, scores)]
  # Less |text|^2, which is the same in a row: nothing to cancel against.
  text = _wide(anchors.features)
  scores = squares[None, :] - 2 * jnp.matmul(
    text, _wide(gallery.features).T, precision=lax.Precision.HIGHEST
  )
  # What is not a number is picked, so that the loss shows it.
  scores = jnp.where(scores < math.inf, scores, -math.inf)
  scores = jnp.where(excluded, math.inf, scores)
  if miner != 'semihard':
    return [scores]
  own = _wide(positive)
  own = jnp.sum(own * (own - 2 * text), axis=-1, keepdims=True)
  return [jnp.where(scores > own, scores, math.inf), scores]


def _hashed(seed: jax.Array, column: jax.Array) -> jax.Array:
  """Numbers in [0, 1) that look independent (the finaliser of MurmurHash3)."""
  x = seed ^ (column.astype(jnp.uint32) * jnp.uint32(0x9E3779B1))
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return ((x ^ (x >> 16)) >> 8).astype(jnp.float32) / 2**24


def _least(scores, columns, count, block_size):
  """The `count` least of each row of each matrix: `[(values, index)]`, sorted.

  Of equal values the lower column comes first. All, where there are fewer.
  """
  count = min(count, columns)
  size = min(max(block_size, count), columns)

  def block(first):
    # The last block ends with the columns and repeats some of the one before.
    start = jnp.minimum(first, columns - size)
    index = start + jnp.arange(size, dtype=jnp.int32)
    return [
      _top(jnp.where(index >= first, values, math.inf), index, count)
      for values in scores(start, size)
    ]

  def step(best, first):
    both = jax.tree.map(
      lambda *x: jnp.concatenate(x, axis=1), best, block(first)
    )
    return [_top(values, index, count) for values, index in both], None

  best = block(jnp.int32(0))
  if size == columns:
    return best
  firsts = jnp.arange(size, columns, size, dtype=jnp.int32)
  return lax.scan(step, best, firsts)[0]


def _top(values, index, count):
  """The `count` least of each row with their `index` `[c]` or `[b, c]`."""
  if count == 1:
    place = jnp.argmin(values, axis=1, keepdims=True)
  else:
    place = lax.top_k(-values, count)[1]
  index = jnp.broadcast_to(index, values.shape)
  return tuple(jnp.take_along_axis(x, place, axis=1) for x in (values, index))


def _pick(bits, values, index, first):
  """One of the valid places from `first` on, or the last valid one."""
  count = jnp.sum(values < math.inf, axis=1, dtype=jnp.int32)
  low = jnp.clip(count - 1, 0, first)
  width = jnp.maximum(count - low, 1).astype(jnp.uint32)
  place = low + (bits % width).astype(jnp.int32)
  valid = count > 0
  index = jnp.take_along_axis(index, place[:, None], axis=1)[:, 0]
  return Negatives(jnp.where(valid, index, 0), valid)


def _by_blocks(function, rows, count, block_size):
  """Applies a function of rows to blocks of them, one after the other."""
  if count <= block_size:
    return function(rows)
  starts = jnp.arange(-(-count // block_size), dtype=jnp.int32) * block_size
  starts = jnp.minimum(starts, count - block_size)
  blocks = lax.map(
    lambda start: function(_slice(rows, start, block_size)), starts
  )
  places = starts[:, None] + jnp.arange(block_size)
  return jax.tree.map(
    lambda x: jnp.zeros((count, *x.shape[2:]), x.dtype).at[places].set(x),
    blocks,
  )


def _slice(tree, start, size):
  return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), tree)


def _wide(x: jax.Array) -> jax.Array:
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
