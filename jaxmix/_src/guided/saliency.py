"""Saliency maps, for the modes that are guided by the images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmix._src.checks import check_images, check_number, check_shape
from jaxmix._src.settings import in_any_setting

# Saliency is computed at a coarse scale, as in Hou and Zhang: pixels per side.
_SIDE = 64


@in_any_setting
def spectral_residual(
  images: ArrayLike, *, sigma: float = 2.5 / 64
) -> jax.Array:
  """Computes saliency by the spectral residual: Hou and Zhang, CVPR 2007.

  The log amplitude of the grey image, minus its mean over the surrounding
  3 x 3 (x 3 ...) frequencies, is transformed back with the original phase,
  squared and blurred. Axes of more than 64 pixels are shrunk to 64 first, and
  the map is resized back at the end.

  Args:
    images: `[B, *spatial, C]`, floating point or uint8; the scale of the
      pixels only changes the scale of the map.
    sigma: standard deviation of the Gaussian blur, as a fraction of each side,
      from 0 (no blur) to 1; the default is 2.5 of 64 pixels.

  Returns:
    float32 `[B, *spatial]`, 0 or more; constant if the image is constant.

  Raises:
    ValueError, TypeError: invalid images, or a sigma out of range.

  >>> image = jnp.zeros((1, 32, 32, 1)).at[0, 20:23, 8:11].set(1)
  >>> saliency = jax.jit(spectral_residual)(image)
  >>> row, column = divmod(int(jnp.argmax(saliency)), 32)
  >>> 19 <= row <= 23, 7 <= column <= 11
  (True, True)
  """
  check_number('sigma', sigma, 0, 1)
  images = check_images(images)
  batch, spatial_shape = images.shape[0], images.shape[1:-1]
  grey = jnp.mean(images.astype(jnp.float32), axis=-1)
  small = tuple(min(length, _SIDE) for length in spatial_shape)
  if small != spatial_shape:
    grey = jax.image.resize(grey, (batch, *small), 'linear')
  axes = tuple(range(1, grey.ndim))
  spectrum = jnp.fft.fftn(grey, axes=axes)
  size = jnp.abs(spectrum)
  # Amplitudes that are only rounding errors of the largest have no phase.
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
  if small != spatial_shape:
    saliency = jax.image.resize(saliency, (batch, *spatial_shape), 'linear')
  return saliency


def _local_mean(field: jax.Array) -> jax.Array:
  """Returns the mean over three neighbours on each spatial axis, cyclic.

  A spectrum is periodic and has no border.
  """
  for axis in range(1, field.ndim):
    around = jnp.roll(field, 1, axis) + jnp.roll(field, -1, axis)
    field = (field + around) / 3
  return field


@functools.cache
def _blur_matrix(length: int, sigma: float) -> np.ndarray:
  """Returns Gaussian weights `[length, length]`; each row adds up to 1."""
  if sigma == 0:
    return np.eye(length, dtype=np.float32)
  pixel = np.arange(length)
  weight = np.exp(-0.5 * ((pixel[:, None] - pixel) / sigma) ** 2)
  return (weight / weight.sum(1, keepdims=True)).astype(np.float32)


def zero_if_undefined(saliency: jax.Array) -> jax.Array:
  """Returns the maps that are finite, and zeros for the others.

  A map with a NaN or an infinity, of an image that has one, would win every
  comparison with the maps of other images.

  >>> zero_if_undefined(jnp.array([[1.0, 2.0], [jnp.nan, 1.0]])).tolist()
  [[1.0, 2.0], [0.0, 0.0]]
  """
  axes = tuple(range(1, saliency.ndim))
  finite = jnp.all(jnp.isfinite(saliency), axis=axes, keepdims=True)
  return jnp.where(finite, saliency, jnp.zeros_like(saliency))


@in_any_setting
def gradient_saliency(gradient: ArrayLike) -> jax.Array:
  """Computes saliency from a gradient of the loss: Puzzle Mix, section 3.

  Args:
    gradient: `[B, *spatial, C]`, the gradient of the sum of the samples' losses
      with respect to the images. The modes use only each pixel's fraction of
      the sum of a map, so the scale of each sample's loss does not matter.

  Returns:
    float32 `[B, *spatial]`, 0 or more: the root mean square over the channels.

  Raises:
    ValueError: `gradient` is not of rank 3 or more.

  >>> gradient_saliency(jnp.array([[[3.0, 3.0], [0.0, 0.0]]])).tolist()
  [[3.0, 0.0]]
  """
  check_shape(jnp.shape(gradient))
  square = jnp.square(jnp.asarray(gradient, jnp.float32))
  return jnp.sqrt(jnp.mean(square, axis=-1))
