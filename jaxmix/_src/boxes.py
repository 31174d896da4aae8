"""Axis-aligned boxes: int32 `[B, d, 2]`, start and stop on each spatial axis.

A box contains the pixels from `start` up to, but not including, `stop`.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix._src.platform import by_platform


def draw_pixel(
  key: jax.Array, count: int, spatial_shape: tuple[int, ...]
) -> jax.Array:
  """Draws `count` pixels, uniform over the image: int32 `[count, d]`.

  >>> draw_pixel(jax.random.key(0), 2, (32, 32)).shape
  (2, 2)
  """
  # Drawn flat: XLA's CPU compiler takes seconds over a random array of several
  # axes.
  drawn = jax.random.uniform(key, (count * len(spatial_shape),), jnp.float32)
  return pixel_of(drawn.reshape(count, len(spatial_shape)), spatial_shape)


def pixel_of(position: jax.Array, spatial_shape: tuple[int, ...]) -> jax.Array:
  """Returns the pixel at each position in the image: int32 `[n, d]`.

  Args:
    position: float32 `[n, d]` in [0, 1), as a fraction of each side.
    spatial_shape: the `d` lengths of the image.

  >>> pixel_of(jnp.array([[0.0, 0.99]]), (4, 10)).tolist()
  [[0, 9]]
  """
  length = jnp.asarray(spatial_shape, jnp.int32)
  pixel = (position * length.astype(jnp.float32)).astype(jnp.int32)
  return jnp.minimum(pixel, length - 1)  # a product may be rounded up


def make_box(start: jax.Array, size: jax.Array) -> jax.Array:
  """Returns boxes for starts and sizes, int32 `[n, d]`: int32 `[n, d, 2]`.

  >>> make_box(jnp.array([[1]]), jnp.array([[3]])).tolist()
  [[[1, 4]]]
  """
  return by_platform(
    start,
    size,
    # A CPU knows each half of this again, and computes it for every pixel.
    cpu=lambda start, size: jnp.stack([start, start + size], axis=-1),
    # On an accelerator a concatenation would be a kernel of its own.
    default=lambda start, size: (
      start[..., None] + size[..., None] * jnp.arange(2, dtype=size.dtype)
    ),
  )


def cut_box(
  ratio: jax.Array, centre: jax.Array, spatial_shape: tuple[int, ...]
) -> jax.Array:
  """Returns the CutMix box: a fraction `1 - ratio` of the image, then clipped.

  The side on an axis of length L is `L * (1 - ratio)^(1/d)`, which gives the
  right volume for any number `d` of axes (for images, the official square
  root). It is rounded down to an even number, and the box is clipped at the
  border.

  Args:
    ratio: float32 `[n]`, the fraction of the image to keep.
    centre: int32 `[n, d]`.
    spatial_shape: the `d` lengths of the image.

  Returns:
    int32 `[n, d, 2]`.

  >>> cut_box(jnp.array([0.75]), jnp.array([[0, 16]]), (32, 32)).tolist()
  [[[0, 8], [8, 24]]]
  """
  length = jnp.asarray(spatial_shape, jnp.int32)
  side = _root(1 - ratio, len(spatial_shape))[:, None] * length
  half = side.astype(jnp.int32) // 2
  start = jnp.clip(centre - half, 0, length)
  return make_box(start, jnp.clip(centre + half, 0, length) - start)


def share_box(
  ratio: jax.Array,
  position: jax.Array,
  spatial_shape: tuple[int, ...],
  *,
  min_share: float,
  max_share: float,
) -> jax.Array:
  """Returns a box inside the image, whose share of it lies within bounds.

  The share is `max_share - (max_share - min_share) * ratio`, rounded to that of
  a box of `share_sides`.

  Args:
    ratio: float32 `[n]` in [0, 1].
    position: float32 `[n, d]` in [0, 1), among all positions in the image.
    spatial_shape: the `d` lengths of the image.
    min_share: lower bound.
    max_share: upper bound.

  Returns:
    int32 `[n, d, 2]`.

  >>> share_box(
  ...   jnp.ones(1), jnp.array([[0.9]]), (4,), min_share=0.5, max_share=0.75
  ... ).tolist()
  [[[2, 4]]]
  """
  sides = share_sides(spatial_shape, min_share, max_share)
  volume = np.prod(sides, axis=1)
  share = max_share - (max_share - min_share) * ratio
  # Boxes of one volume, such as 2 x 3 and 3 x 2, have a half each of what is
  # nearest to it.
  between = (volume[1:] + volume[:-1]) / 2 / math.prod(spatial_shape)
  nearest = jnp.searchsorted(
    jnp.asarray(between, jnp.float32), share, method='compare_all'
  )
  side = jnp.asarray(sides, jnp.int32)[nearest]
  length = jnp.asarray(spatial_shape, jnp.int32)
  places = length - side + 1
  start = (position * places.astype(jnp.float32)).astype(jnp.int32)
  return make_box(jnp.minimum(start, places - 1), side)


@functools.cache
def share_sides(
  spatial_shape: tuple[int, ...], min_share: float, max_share: float
) -> np.ndarray:
  """Returns the sides of the boxes of a share within bounds: int `[n, d]`.

  They have the proportions of the image, rounded to whole pixels, and are
  sorted by volume. If the bounds are too close for that, there is one box: of
  all boxes within the bounds that with the most similar proportions. If no box
  is within the bounds, it is the nearest in proportion; its share differs from
  them by at most half of 1 / the shortest side of the image.

  >>> share_sides((8, 8), 0.1, 0.25).tolist()
  [[3, 3], [3, 4], [4, 3], [4, 4]]
  """
  length = np.array(spatial_shape)
  total = math.prod(spatial_shape)
  # The sides that are rounded change at these scales only.
  scale = np.unique(np.concatenate([np.arange(n + 1) / n for n in length]))
  exact = (scale[1:] + scale[:-1])[:, None] / 2 * length
  whole = np.floor(exact).astype(int)
  sides = np.concatenate(
    [whole + up for up in itertools.product((0, 1), repeat=len(length))]
  )
  # Division rounds as the literal does: 7 of 100 pixels are a share of 0.07.
  share = np.prod(sides, axis=1) / total
  within = (min_share <= share) & (share <= max_share)
  if within.any():
    sides = np.unique(sides[within], axis=0)
    return sides[np.argsort(np.prod(sides, axis=1), kind='stable')]
  # Every box within the bounds: the last side by those of the other axes.
  low, high = math.floor(min_share * total), math.ceil(max_share * total)
  low, high = low + (low / total < min_share), high - (high / total > max_share)
  first = 1 + np.array(list(np.ndindex(spatial_shape[:-1])), int)
  other = np.prod(first, axis=1)
  least, most = -(-low // other), np.minimum(high // other, length[-1])
  alike = np.mean(first / length[:-1], axis=1) if len(length) > 1 else 1.0
  last = np.clip(np.rint(alike * length[-1]).astype(int), least, most)
  boxes = np.column_stack([first, last])[least <= most]
  if len(boxes):
    scales = boxes / length
    return boxes[[np.argmin(scales.max(1) / scales.min(1))]]
  distance = np.maximum(min_share - share, share - max_share)
  return sides[[np.argmin(distance)]]


def _root(value: jax.Array, degree: int) -> jax.Array:
  # sqrt is correctly rounded; a power of one half is not.
  if degree == 2:
    return jnp.sqrt(value)
  return value if degree == 1 else value ** (1 / degree)


def inside(box: jax.Array, spatial_shape: tuple[int, ...]) -> jax.Array:
  """Returns a mask of the pixels in each box: bool `[B, *spatial_shape]`.

  >>> inside(jnp.array([[[1, 3]]]), (4,)).tolist()
  [[False, True, True, False]]
  """
  result = jnp.ones((), bool)
  for axis, length in enumerate(spatial_shape):
    shape = [1] * (len(spatial_shape) + 1)
    shape[axis + 1] = length
    pixel = jnp.arange(length, dtype=box.dtype).reshape(shape)
    start, stop = (
      box[:, axis, side].reshape([-1] + [1] * len(spatial_shape))
      for side in (0, 1)
    )
    result = result & (start <= pixel) & (pixel < stop)
  return result


def fraction_outside(
  box: jax.Array, spatial_shape: tuple[int, ...]
) -> jax.Array:
  """Returns the exact fraction of pixels outside each box: float32 `[B]`.

  >>> fraction_outside(jnp.array([[[0, 2], [1, 3]]]), (4, 4)).tolist()
  [0.75]
  """
  # Not a sum over an axis, which would be a kernel of its own.
  side = box[..., 1] - box[..., 0]
  area = functools.reduce(jnp.multiply, jnp.unstack(side, axis=1))
  total = math.prod(spatial_shape)
  return (total - area).astype(jnp.float32) / total
