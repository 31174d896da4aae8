"""Axis-aligned boxes: int32 `[B, d, 2]`, start and stop on each spatial axis.

A box contains the pixels from `start` up to, but not including, `stop`.
"""

import math

import jax
import jax.numpy as jnp


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
  # Not a concatenation, which would be a kernel of its own.
  return start[..., None] + size[..., None] * jnp.arange(2, dtype=size.dtype)


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
  area = math.prod(side[:, axis] for axis in range(len(spatial_shape)))
  total = math.prod(spatial_shape)
  return (total - area).astype(jnp.float32) / total
