"""Image augmentation on the device: pad and crop, flip, normalise."""

import dataclasses

import jax
import jax.numpy as jnp


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CropFlip:
  """The crops and flips drawn for a batch.

  Attributes:
    offset: int32 `[B, 2]` in [-pad, pad]: the first row and column of the crop.
    flip: bool `[B]`: whether the image is mirrored from left to right.
  """

  offset: jax.Array
  flip: jax.Array


def draw_crop_flip(
  key: jax.Array, batch: int, *, pad: int, flip: bool
) -> CropFlip:
  """Draws crops, uniform over all offsets, and flips with probability 1/2.

  Args:
    key: random key.
    batch: number of images.
    pad: black pixels added on each side before the crop; 0: no crop.
    flip: whether images may be mirrored (not for digits).

  >>> draw_crop_flip(jax.random.key(0), 2, pad=4, flip=True).offset.shape
  (2, 2)
  """
  offset_key, flip_key = jax.random.split(key)
  # Drawn flat: XLA's CPU compiler is slow over random arrays of several axes.
  offset = jax.random.randint(offset_key, (2 * batch,), -pad, pad + 1)
  mirrored = jnp.zeros(batch, bool)
  if flip:
    mirrored = jax.random.bernoulli(flip_key, shape=(batch,))
  return CropFlip(offset.reshape(batch, 2), mirrored)


def crop_flip(drawn: CropFlip, images: jax.Array) -> jax.Array:
  """Crops and mirrors `[B, H, W, C]` in one gather; the padding is 0.

  >>> drawn = CropFlip(jnp.array([[0, 1]]), jnp.array([True]))
  >>> crop_flip(drawn, jnp.array([1, 2, 3]).reshape(1, 1, 3, 1))[0, 0, :, 0]
  Array([0, 3, 2], dtype=int32)
  """
  batch, height, width, _ = images.shape
  row = jnp.arange(height)[None] + drawn.offset[:, :1]
  column = jnp.arange(width)[None]
  column = jnp.where(drawn.flip[:, None], width - 1 - column, column)
  column = column + drawn.offset[:, 1:]
  black = ((row < 0) | (row >= height))[:, :, None]
  black = black | ((column < 0) | (column >= width))[:, None, :]
  grid = (
    jnp.arange(batch)[:, None, None],
    jnp.clip(row, 0, height - 1)[:, :, None],
    jnp.clip(column, 0, width - 1)[:, None, :],
  )
  pixels = images.at[grid].get(mode='promise_in_bounds')
  return jnp.where(black[..., None], 0, pixels)


def normalise(
  images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
  """Returns float32 `(x / 255 - mean) / std` for each channel.

  >>> normalise(jnp.full((1, 1, 1, 1), 255, jnp.uint8), (0.5,), (0.5,)).item()
  1.0
  """
  shape = [1] * (images.ndim - 1) + [-1]
  mean_, std_ = (jnp.asarray(x).reshape(shape) for x in (mean, std))
  return (images.astype(jnp.float32) / 255 - mean_) / std_
