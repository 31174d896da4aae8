"""Grids of equal blocks: pooling, and moving the blocks of images.

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


def move(images: jax.Array, order: jax.Array) -> jax.Array:
  """Moves block `order[b, i, j]` of each image to position `(i, j)`.

  Args:
    images: `[B, H, W, C]`, sides that are multiples of `n`.
    order: int32 `[B, n, n]`, block numbers in row-major order.

  >>> row = jnp.array([1, 2, 3, 4]).reshape(1, 4, 1, 1)
  >>> image = jnp.broadcast_to(row, (1, 4, 2, 1))
  >>> move(image, jnp.array([[[2, 3], [0, 1]]]))[0, :, 0, 0].tolist()
  [3, 4, 1, 2]
  """
  count = order.shape[1]
  sample = jnp.arange(len(images)).reshape(-1, 1, 1)
  return _gather(images, sample, order // count, order % count)


def take(images: jax.Array, owner: jax.Array) -> jax.Array:
  """Takes each block from image `owner[b, i, j]`, at the same position.

  Args:
    images: `[B, H, W, C]`, sides that are multiples of `n`.
    owner: int32 `[B, n, n]`.

  >>> images = jnp.array([[[[1], [2]]] * 2, [[[3], [4]]] * 2])
  >>> take(images, jnp.array([[[0, 1], [1, 0]]] * 2))[0, ..., 0].tolist()
  [[1, 4], [3, 2]]
  """
  position = jnp.arange(owner.shape[1])
  return _gather(images, owner, position[:, None], position)


def _gather(
  images: jax.Array, sample: jax.Array, row: jax.Array, column: jax.Array
) -> jax.Array:
  """Assembles images from blocks given by their sample, row and column.

  The three index arrays broadcast to `[B, n, n]`.
  """
  _, height, width, channels = images.shape
  shape = jnp.broadcast_shapes(sample.shape, row.shape, column.shape)
  count = shape[1]
  cut = (len(images), count, height // count, count, width // count, channels)
  # The slice between the indices moves the pixel axes behind the block axes.
  chosen = (
    images.reshape(cut).at[sample, row, :, column].get(mode='promise_in_bounds')
  )
  return chosen.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)
