"""Axis-aligned boxes: int32 `[B, d, 2]`, start and stop on each spatial axis.

A box holds the pixels from start up to, but without, stop.
"""

import math

import jax
import jax.numpy as jnp


def draw_pixel(key: jax.Array, count: int, space: tuple[int, ...]) -> jax.Array:
  """Draws `count` pixels, uniform over the image: int32 `[count, d]`.

  >>> draw_pixel(jax.random.key(0), 2, (32, 32)).shape
  (2, 2)
  """
  # Drawn flat: XLA's CPU compiler takes seconds over a random array of several
  # axes. A uniform number is a multiple of 2^-23 below 1, so the product stays
  # below the length.
  drawn = jax.random.uniform(key, (count * len(space),), jnp.float32)
  drawn = drawn.reshape(count, len(space)) * jnp.asarray(space, jnp.float32)
  return drawn.astype(jnp.int32)


def inside(box: jax.Array, space: tuple[int, ...]) -> jax.Array:
  """Which pixels lie in the box: bool `[B, *space]`.

  >>> inside(jnp.array([[[1, 3]]]), (4,)).tolist()
  [[False, True, True, False]]
  """
  result = jnp.ones((), bool)
  for axis, length in enumerate(space):
    shape = [1] * (len(space) + 1)
    shape[axis + 1] = length
    pixel = jnp.arange(length, dtype=box.dtype).reshape(shape)
    start, stop = (
      box[:, axis, side].reshape([-1] + [1] * len(space)) for side in (0, 1)
    )
    result = result & (start <= pixel) & (pixel < stop)
  return result


def share_outside(box: jax.Array, space: tuple[int, ...]) -> jax.Array:
  """The exact share of the pixels outside the box: float32 `[B]`.

  >>> share_outside(jnp.array([[[0, 2], [1, 3]]]), (4, 4)).tolist()
  [0.75]
  """
  area = jnp.prod(box[..., 1] - box[..., 0], axis=-1)
  total = math.prod(space)
  return (total - area).astype(jnp.float32) / total
