"""Where in an image something is to be seen: maps for the modes that ask."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmix._src.checks import check_images, check_number, check_shape

# Hou and Zhang look at images of this many pixels a side, from farther away
# than a photograph is stored.
_SIDE = 64


def spectral_residual(
  images: ArrayLike, *, sigma: float = 2.5 / 64
) -> jax.Array:
  """Saliency of what an image's spectrum does not foretell.

  Hou and Zhang, CVPR 2007: of the grey image the log amplitude, less its mean
  over the 3 x 3 (x 3 ...) frequencies around, goes back through the inverse
  transform with the phase that it had; squared and blurred. Axes of more than
  64 pixels are shrunk to that before, and the map is stretched after.

  Args:
    images: `[B, *spatial, C]`, floating point or uint8; the scale of the
      pixels changes nothing but the scale of the map.
    sigma: of the Gaussian blur, as a share of each side, from 0 (none) to 1;
      2.5 of 64 pixels.

  Returns:
    float32 `[B, *spatial]`, 0 or more. Where an image is flat, a constant.

  Raises:
    ValueError, TypeError: images that are none, or a sigma out of range.

  >>> image = jnp.zeros((1, 32, 32, 1)).at[0, 20:23, 8:11].set(1)
  >>> row, column = divmod(int(jnp.argmax(spectral_residual(image))), 32)
  >>> 19 <= row <= 23, 7 <= column <= 11
  (True, True)
  """
  check_number('sigma', sigma, 0, 1)
  images = check_images(images)
  batch, space = images.shape[0], images.shape[1:-1]
  grey = jnp.mean(images.astype(jnp.float32), axis=-1)
  small = tuple(min(length, _SIDE) for length in space)
  if small != space:
    grey = jax.image.resize(grey, (batch, *small), 'linear')
  axes = tuple(range(1, grey.ndim))
  spectrum = jnp.fft.fftn(grey, axes=axes)
  size = jnp.abs(spectrum)
  # What is but the rounding of the largest has no phase of its own.
  floor = 1e-6 * jnp.max(size, axis=axes, keepdims=True)
  floor = jnp.maximum(floor, jnp.finfo(jnp.float32).tiny)
  phase = jnp.where(size > floor, spectrum / jnp.maximum(size, floor), 0)
  log_size = jnp.log(jnp.maximum(size, floor))
  residual = log_size - _local_mean(log_size)
  back = jnp.fft.ifftn(jnp.exp(residual) * phase, axes=axes)
  saliency = jnp.square(jnp.abs(back))
  for axis, length in enumerate(small):
    blur = _blur_matrix(length, sigma * length)
    saliency = jnp.tensordot(
      saliency, blur, axes=(axis + 1, 1), precision='highest'
    )
    saliency = jnp.moveaxis(saliency, -1, axis + 1)
  if small != space:
    saliency = jax.image.resize(saliency, (batch, *space), 'linear')
  return saliency


def _local_mean(field: jax.Array) -> jax.Array:
  """The mean over the three neighbours on each spatial axis, cyclic.

  A spectrum is periodic: it has no border.
  """
  for axis in range(1, field.ndim):
    around = jnp.roll(field, 1, axis) + jnp.roll(field, -1, axis)
    field = (field + around) / 3
  return field


@functools.cache
def _blur_matrix(length: int, sigma: float) -> np.ndarray:
  """Gaussian weights `[length, length]`; each row adds up to 1."""
  if sigma == 0:
    return np.eye(length, dtype=np.float32)
  pixel = np.arange(length)
  weight = np.exp(-0.5 * ((pixel[:, None] - pixel) / sigma) ** 2)
  return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


def gradient_saliency(gradient: ArrayLike) -> jax.Array:
  """Saliency of what a loss asks to be changed: Puzzle Mix, section 3.

  Args:
    gradient: `[B, *spatial, C]`, of the sum of the samples' losses with respect
      to the images. The modes look at shares of a map's sum alone, so the scale
      of each sample's loss does not matter.

  Returns:
    float32 `[B, *spatial]`, 0 or more: the root of the mean square over the
    channels.

  Raises:
    ValueError: `gradient` is not of rank 3 or more.

  >>> gradient_saliency(jnp.array([[[3.0, 3.0], [0.0, 0.0]]])).tolist()
  [[3.0, 0.0]]
  """
  check_shape(jnp.shape(gradient))
  square = jnp.square(jnp.asarray(gradient, jnp.float32))
  return jnp.sqrt(jnp.mean(square, axis=-1))
