"""Images as grids of equal blocks: planes `[B, n, n]` of one number a block."""

import jax
import jax.numpy as jnp


def pool(field: jax.Array, count: int) -> jax.Array:
  """The mean of each block: `[B, H, W]` to `[B, count, count]`.

  >>> pool(jnp.arange(8.0).reshape(1, 2, 4), 2).tolist()
  [[[0.5, 2.5], [4.5, 6.5]]]
  """
  batch, height, width = field.shape
  shape = (batch, count, height // count, count, width // count)
  return jnp.mean(field.reshape(shape), axis=(2, 4))


def shares(saliency: jax.Array, count: int) -> jax.Array:
  """What each block holds of its image's saliency, float32; 0 if it has none.

  >>> shares(jnp.ones((1, 4, 4)), 2).tolist()
  [[[0.25, 0.25], [0.25, 0.25]]]
  """
  pooled = pool(saliency.astype(jnp.float32), count)
  total = jnp.sum(pooled, axis=(1, 2), keepdims=True)
  return pooled / jnp.maximum(total, jnp.finfo(jnp.float32).tiny)


def spread(plane: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Gives every pixel the number of its block: `[B, n, n]` to `[B, H, W]`.

  >>> spread(jnp.array([[[1, 2]]]), (1, 4)).tolist()
  [[[1, 1, 2, 2]]]
  """
  _, rows, columns = plane.shape
  plane = jnp.repeat(plane, shape[0] // rows, axis=1)
  return jnp.repeat(plane, shape[1] // columns, axis=2)


def refine(order: jax.Array, count: int) -> jax.Array:
  """The same move of blocks, cut into smaller ones.

  Args:
    order: int32 `[B, n, n]`: the block, counted along the rows, that lies at
      each place.
    count: of blocks a side, a multiple of `n`.

  Returns:
    int32 `[B, count, count]`.

  >>> refine(jnp.array([[[1, 0], [2, 3]]]), 4)[0, 0].tolist()
  [2, 3, 0, 1]
  """
  old = order.shape[1]
  factor = count // old
  order = spread(order, (count, count))
  part = jnp.arange(count) % factor
  row = (order // old) * factor + part[:, None]
  return row * count + (order % old) * factor + part


def move(images: jax.Array, order: jax.Array) -> jax.Array:
  """Puts block `order[b, i, j]` of each image at place `(i, j)`.

  Args:
    images: `[B, H, W, C]`, sides that are multiples of `n`.
    order: int32 `[B, n, n]`, blocks counted along the rows.

  >>> row = jnp.array([1, 2, 3, 4]).reshape(1, 4, 1, 1)
  >>> image = jnp.broadcast_to(row, (1, 4, 2, 1))
  >>> move(image, jnp.array([[[2, 3], [0, 1]]]))[0, :, 0, 0].tolist()
  [3, 4, 1, 2]
  """
  count = order.shape[1]
  sample = jnp.arange(len(images)).reshape(-1, 1, 1)
  return _gather(images, sample, order // count, order % count)


def take(images: jax.Array, owner: jax.Array) -> jax.Array:
  """Takes each block from image `owner[b, i, j]`, at the same place.

  Args:
    images: `[B, H, W, C]`, sides that are multiples of `n`.
    owner: int32 `[B, n, n]`.

  >>> images = jnp.array([[[[1], [2]]] * 2, [[[3], [4]]] * 2])
  >>> take(images, jnp.array([[[0, 1], [1, 0]]] * 2))[0, ..., 0].tolist()
  [[1, 4], [3, 2]]
  """
  place = jnp.arange(owner.shape[1])
  return _gather(images, owner, place[:, None], place)


def _gather(
  images: jax.Array, sample: jax.Array, row: jax.Array, column: jax.Array
) -> jax.Array:
  """Images of which each block is given by its sample, row and column.

  The three broadcast to `[B, n, n]`.
  """
  _, height, width, channels = images.shape
  shape = jnp.broadcast_shapes(sample.shape, row.shape, column.shape)
  count = shape[1]
  cut = (len(images), count, height // count, count, width // count, channels)
  # Indexed around the rows of a block, which then come last but two.
  chosen = (
    images.reshape(cut).at[sample, row, :, column].get(mode='promise_in_bounds')
  )
  return chosen.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)
