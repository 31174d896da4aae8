"""Cutout: DeVries and Taylor, arXiv 1708.04552."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.boxes import draw_pixel, inside
from jaxmix._src.checks import (
  check_images,
  check_key,
  check_shape,
  check_whole,
)
from jaxmix._src.identity import draw_identity
from jaxmix._src.labels import mix_labels
from jaxmix._src.settings import in_any_setting


@in_any_setting
def draw_cutout(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  length: int = 16,
) -> jax.Array:
  """Draws the boxes of Cutout, one for each sample.

  The official distribution: a square around a centre that is uniform over all
  pixels, clipped at the border, so that less than the whole square may be
  filled.

  Args:
    key: random key.
    shape: `[B, *spatial, C]`, the shape of the images.
    length: side of the square in pixels, 1 or more; 16 for CIFAR-10 and 8 for
      CIFAR-100 in the paper. With an odd length the official code fills one
      pixel less.

  Returns:
    int32 `[B, d, 2]`: start and stop on each of the `d` spatial axes.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> draw_cutout(jax.random.key(0), (4, 32, 32, 3), length=8).shape
  (4, 2, 2)
  """
  check_key(key)
  batch, spatial_shape = check_shape(shape)
  check_whole('length', length, 1)
  centre = draw_pixel(key, batch, spatial_shape)
  start = centre - length // 2
  box = jnp.stack([start, start + length], axis=-1)
  return jnp.clip(box, 0, jnp.asarray(spatial_shape, jnp.int32)[:, None])


def cutout(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  length: int = 16,
  fill: ArrayLike = 0,
) -> tuple[jax.Array, jax.Array]:
  """Cutout: a square of each image is filled; nothing is mixed.

  Args:
    key: random key.
    images: `[B, *spatial, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    length: see `jaxmix.draw_cutout`.
    fill: value to write, broadcast against the channels. The official code
      fills normalised images, where 0 is the mean colour.

  Returns:
    `(images, labels)`: the images in their dtype, labels `[B, K]`, in the same
    form as from the modes that mix.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images, labels = jnp.ones((1, 8, 8, 1)), jnp.array([2])
  >>> cut, labels = cutout(
  ...   jax.random.key(0), images, labels, length=4, num_classes=3
  ... )
  >>> bool(cut.sum() < 64), labels.tolist()
  (True, [[0.0, 0.0, 1.0]])
  """
  images = check_images(images)
  box = draw_cutout(key, images.shape, length=length)
  unmixed = draw_identity(key, images.shape)
  labels = mix_labels(unmixed, labels, num_classes=num_classes)
  return fill_box(images, box, fill=fill), labels


@in_any_setting
def fill_box(
  images: ArrayLike, box: ArrayLike, *, fill: ArrayLike = 0
) -> jax.Array:
  """Fills a box of each image; applies a draw of `jaxmix.draw_cutout`.

  Args:
    images: `[B, *spatial, C]`, floating point or uint8.
    box: int `[B, d, 2]`, start and stop on each spatial axis.
    fill: value to write, broadcast against the channels.

  Returns:
    The images in their dtype.

  Raises:
    ValueError, TypeError: invalid images, or a box of another shape.

  >>> fill_box(jnp.ones((1, 3, 1)), jnp.array([[[1, 5]]])).ravel().tolist()
  [1.0, 0.0, 0.0]
  """
  images, box = check_images(images), jnp.asarray(box)
  spatial_shape = images.shape[1:-1]
  if box.shape != (len(images), len(spatial_shape), 2):
    raise ValueError(
      f'box has shape {list(box.shape)}; these images need '
      f'{[len(images), len(spatial_shape), 2]}.'
    )
  cut = inside(box, spatial_shape)[..., None]
  return jnp.where(cut, jnp.asarray(fill, images.dtype), images)
