"""Cutout: DeVries and Taylor, arXiv 1708.04552."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmix._src.boxes import draw_pixel, inside
from jaxmix._src.checks import (
  check_images,
  check_key,
  check_shape,
  check_whole,
  is_concrete,
)
from jaxmix._src.identity import draw_identity
from jaxmix._src.labels import mix_labels
from jaxmix._src.settings import in_any_setting
from jaxmix._src.spatial_axes import named_shape, spread_box


@in_any_setting
def draw_cutout(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  length: int = 16,
  spatial_axes: tuple[int, ...] | None = None,
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
    spatial_axes: see `jaxmix.draw_cutmix`.

  Returns:
    int32 `[B, d, 2]`: start and stop on each of the `d` spatial axes.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> draw_cutout(jax.random.key(0), (4, 32, 32, 3), length=8).shape
  (4, 2, 2)
  """
  check_key(key)
  batch, spatial_shape = check_shape(named_shape(shape, spatial_axes))
  check_whole('length', length, 1)
  centre = draw_pixel(key, batch, spatial_shape)
  start = centre - length // 2
  box = jnp.stack([start, start + length], axis=-1)
  box = jnp.clip(box, 0, jnp.asarray([spatial_shape], jnp.int32)[..., None])
  return spread_box(box, shape, spatial_axes)


def cutout(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
  where: ArrayLike | None = None,
  length: int = 16,
  fill: ArrayLike | Sequence[float] = 0,
  spatial_axes: tuple[int, ...] | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Cutout: a square of each image is filled; nothing is mixed.

  Args:
    key: random key.
    images: `[B, *spatial, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    label_smoothing: see `jaxmix.random_mix`.
    where: see `jaxmix.random_mix`.
    length: see `jaxmix.draw_cutout`.
    fill: the value to write, one number or one for each channel, `[C]`. The
      official code fills normalised images, where 0 is the mean colour.
    spatial_axes: see `jaxmix.draw_cutmix`.

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
  box = draw_cutout(key, images.shape, length=length, spatial_axes=spatial_axes)
  unmixed = draw_identity(key, images.shape)
  return fill_box(images, box, fill=fill), mix_labels(
    unmixed,
    labels,
    num_classes=num_classes,
    label_smoothing=label_smoothing,
    where=where,
  )


@in_any_setting
def fill_box(
  images: ArrayLike, box: ArrayLike, *, fill: ArrayLike | Sequence[float] = 0
) -> jax.Array:
  """Fills a box of each image; applies a draw of `jaxmix.draw_cutout`.

  Args:
    images: `[B, *spatial, C]`, floating point or uint8.
    box: int `[B, d, 2]`, start and stop on each spatial axis.
    fill: the value to write, one number or one for each channel, `[C]`.

  Returns:
    The images in their dtype.

  Raises:
    ValueError, TypeError: invalid images, a box or fill of another shape, or a
      fill that uint8 cannot hold.

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
  return jnp.where(cut, _check_fill(fill, images), images)


def _check_fill(
  fill: ArrayLike | Sequence[float], images: jax.Array
) -> jax.Array:
  """Returns `fill` in the dtype and the rank of the images."""
  known = all(map(is_concrete, jax.tree.leaves(fill)))
  if images.dtype == np.uint8 and known:
    if not np.isin(np.asarray(fill), np.arange(256)).all():
      raise ValueError(
        f'fill={fill!r} must be whole numbers from 0 to 255 for uint8 images.'
      )
  value, channels = jnp.asarray(fill, images.dtype), images.shape[-1]
  if value.shape not in ((), (channels,)):
    raise ValueError(
      f'fill={fill!r} has shape {list(value.shape)}; it must be one number or '
      f'one for each of the {channels} channels, [{channels}].'
    )
  return value.reshape([1] * (images.ndim - value.ndim) + [*value.shape])
