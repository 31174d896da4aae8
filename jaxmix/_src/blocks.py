"""Grids of equal blocks: one number for each block of an image.

A grid is an array `[B, n, n]` with one number for each block.
"""

import jax
import jax.numpy as jnp


def pool(field: jax.Array, count: int) -> jax.Array:
  """Returns the mean of each block: `[B, H, W]` to `[B, count, count]`.

  >>> pool(jnp.arange(8.0).reshape(1, 2, 4), 2).tolist()
  [[[0.5, 2.5], [4.5, 6.5]]]
  """
  batch, height, width = field.shape
  shape = (batch, count, height // count, count, width // count)
  return jnp.mean(field.reshape(shape), axis=(2, 4))


def fractions(saliency: jax.Array, count: int) -> jax.Array:
  """Returns the fraction of the image's saliency in each block, float32.

  It is 0 if the image has no saliency.

  >>> fractions(jnp.ones((1, 4, 4)), 2).tolist()
  [[[0.25, 0.25], [0.25, 0.25]]]
  """
  pooled = pool(saliency.astype(jnp.float32), count)
  total = jnp.sum(pooled, axis=(1, 2), keepdims=True)
  return pooled / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)


def upsample(grid: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Repeats the number of each block at its pixels: `[B, n, n]` to `[B, H, W]`.

  >>> upsample(jnp.array([[[1, 2]]]), (1, 4)).tolist()
  [[[1, 1, 2, 2]]]
  """
  _, rows, columns = grid.shape
  grid = jnp.repeat(grid, shape[0] // rows, axis=1)
  return jnp.repeat(grid, shape[1] // columns, axis=2)


def refine(order: jax.Array, count: int) -> jax.Array:
  """Returns the same permutation of blocks on a finer grid.

  Args:
    order: int32 `[B, n, n]`: the number of the block (in row-major order) at
      each position.
    count: blocks per side of the finer grid, a multiple of `n`.

  Returns:
    int32 `[B, count, count]`.

  >>> refine(jnp.array([[[1, 0], [2, 3]]]), 4)[0, 0].tolist()
  [2, 3, 0, 1]
  """
  old = order.shape[1]
  factor = count // old
  order = upsample(order, (count, count))
  part = jnp.arange(count) % factor
  row = (order // old) * factor + part[:, None]
  return row * count + (order % old) * factor + part
