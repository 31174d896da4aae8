"""Low-frequency random fields, which FMix thresholds to get its masks.

Each function is deterministic in its `noise`, standard normal numbers of the
shape that `*_noise_shape` returns, so that distributions can be tested exactly.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix._src.platform import by_platform

# The fraction of a field's variance that may be left out. It lies far above the
# frequencies that shape the mask (at 224x224 it moves the border by about a
# twentieth of a pixel) and would need most of the random numbers.
_NEGLECTED_VARIANCE = 1e-5


def isotropic_noise_shape(
  spatial_shape: tuple[int, ...], decay_power: float
) -> tuple[int, ...]:
  """Returns the noise shape of `isotropic_field`: real and imaginary parts."""
  kept = _kept_frequencies(spatial_shape, decay_power)
  return (2, *(len(indices) for indices in kept))


def isotropic_field(
  noise: jax.Array, spatial_shape: tuple[int, ...], decay_power: float
) -> jax.Array:
  """Filters white noise by `1 / frequency^decay_power` (FMix, section 3).

  The filter depends only on the length of the frequency vector, in cycles per
  pixel, so no direction is preferred. The upper half of a real field's
  spectrum follows from the lower half, so only half is drawn and counted twice.
  The planes of the last axis that are their own mirror image are drawn whole;
  only the real part of their waves is used, which gives a factor sqrt(2).

  Args:
    noise: float32 `[2, ..., n]`: `isotropic_noise_shape`, then the n draws.
    spatial_shape: the lengths of the field, one or more.
    decay_power: exponent of the fall of the amplitude, 0 or more.

  Returns:
    float32 `[n, *spatial_shape]`, with mean 0 and arbitrary scale.

  >>> shape = isotropic_noise_shape((8, 8), 3.0)
  >>> isotropic_field(jnp.ones((*shape, 5)), (8, 8), 3.0).shape
  (5, 8, 8)
  """
  kept = _kept_frequencies(spatial_shape, decay_power)
  grid = np.meshgrid(
    *(
      _cycles(n)[indices]
      for n, indices in zip(spatial_shape, kept, strict=True)
    ),
    indexing='ij',
  )
  frequency = np.sqrt(sum(np.square(axis) for axis in grid))
  lowest = 1 / max(spatial_shape)
  amplitude = np.where(
    frequency > 0,
    (np.maximum(frequency, lowest) / lowest) ** -decay_power,
    0,
  )
  own_mirror = (kept[-1] == 0) | (2 * kept[-1] == spatial_shape[-1])
  amplitude = amplitude * np.where(own_mirror, math.sqrt(2), 2)
  # The inverse transform of so few frequencies is one small contraction for
  # each axis, several times faster than an FFT of the padded spectrum. Axes:
  # frequencies still to do, draws, lengths done, (real, imaginary), length.
  field = noise * amplitude.astype(np.float32)[..., None]
  summed = (0, 1)
  for axis, (length, indices) in enumerate(
    zip(spatial_shape, kept, strict=True)
  ):
    waves = _waves(length, indices)
    if axis == len(spatial_shape) - 1:
      waves = waves[:, :, 0]  # the real part is the field
    field = _contract(field, waves, summed)
    summed = (field.ndim - 2, 0)
  return field


def _contract(
  field: jax.Array, waves: np.ndarray, axes: tuple[int, int]
) -> jax.Array:
  """Sums `field * waves` over two axes of `field` and the first two of `waves`.

  The other axes of `waves` are the last of the result.
  """

  def product(field: jax.Array) -> jax.Array:
    return jnp.tensordot(
      field, waves, axes=(axes, (0, 1)), precision=jax.lax.Precision.HIGHEST
    )

  def sum_of_products(field: jax.Array) -> jax.Array:
    shape = [1] * field.ndim + list(waves.shape[2:])
    for axis, length in zip(axes, waves.shape[:2], strict=True):
      shape[axis] = length
    factor = waves if axes[0] < axes[1] else waves.swapaxes(0, 1)
    field = field.reshape(*field.shape, *[1] * (waves.ndim - 2))
    return jnp.sum(field * factor.reshape(shape), axis=axes)

  # On a GPU products this small are kernels of their own, and sums are fused.
  return by_platform(
    field, cuda=sum_of_products, rocm=sum_of_products, default=product
  )


def _waves(length: int, indices: np.ndarray) -> np.ndarray:
  """Returns `exp(2 pi i k x / length)` as a map of (real, imaginary) pairs.

  Returns:
    float32 `[2, k, 2, length]`: part and frequency in, part and position out.
  """
  phase = 2 * np.pi * np.outer(indices, np.arange(length)) / length
  cos, sin = np.cos(phase), np.sin(phase)
  waves = np.stack([[cos, sin], [-sin, cos]])
  return np.moveaxis(waves, 1, 2).astype(np.float32)


def official_noise_shape(spatial_shape: tuple[int, ...]) -> tuple[int, ...]:
  """Returns the noise shape of `official_field`."""
  return (2, *_official_frequencies(spatial_shape).shape[1:], 2)


def official_field(
  noise: jax.Array, spatial_shape: tuple[int, ...], decay_power: float
) -> jax.Array:
  """Computes the field of the code published with FMix, for comparison.

  The code differs from the paper. The random spectrum has a last axis (real,
  imaginary), but the code indexes the first axis: it takes row 0 as the real
  and row 1 as the imaginary part, and passes the inverse transform an array
  whose horizontal axis is (real, imaginary), padded with zeros. So in a 2-D
  field no row varies faster than once across the image, and a 1-D mask is
  always one run.

  Args:
    noise: float32 `[2, ..., n]`: `official_noise_shape`, then the n draws; rows
      0 and 1 of the official array of normal numbers.
    spatial_shape: one, two or three lengths.
    decay_power: the exponent of the frequency.

  Returns:
    float32 `[n, *spatial_shape]`.
  """
  frequency = _official_frequencies(spatial_shape)
  # The scale of a field does not matter, but it must be within the range of
  # float32: frequencies are relative to the lowest one.
  times = np.maximum(frequency * max(spatial_shape), 1)[:2, ..., None]
  amplitude = times ** -float(decay_power)
  spectrum = jnp.moveaxis(noise, -1, 0) * amplitude.astype(np.float32)
  spectrum = jax.lax.complex(spectrum[:, 0], spectrum[:, 1])
  axes = range(1, len(spatial_shape) + 1)
  return jnp.fft.irfftn(spectrum, s=spatial_shape, axes=tuple(axes))


def _cycles(length: int) -> np.ndarray:
  """Returns cycles per pixel for each index of a transform of this length."""
  return np.fft.fftfreq(length)


def _kept_frequencies(
  spatial_shape: tuple[int, ...], decay_power: float
) -> list[np.ndarray]:
  """Returns, for each axis, the indices of the frequencies to draw.

  The variance beyond `k` times the lowest frequency is about
  `k^(d - 2 decay) / (2 decay - d)` of the whole.
  """
  slope = 2 * decay_power - len(spatial_shape)
  highest = 0.5
  if slope > 0:
    log_times = -math.log(_NEGLECTED_VARIANCE * slope) / slope
    if log_times < math.log(max(spatial_shape)):
      highest = min(
        highest, math.ceil(math.exp(log_times)) / max(spatial_shape)
      )
  kept = []
  for axis, length in enumerate(spatial_shape):
    most = math.ceil(highest * length)
    cycles = np.round(_cycles(length) * length).astype(int)
    indices = np.flatnonzero(np.abs(cycles) <= most)
    if axis == len(spatial_shape) - 1:
      indices = indices[indices <= length // 2]
    kept.append(indices)
  return kept


def _official_frequencies(spatial_shape: tuple[int, ...]) -> np.ndarray:
  """Returns the published frequencies, with axes (height, depth, width)."""
  height = _cycles(spatial_shape[0])
  if len(spatial_shape) == 1:
    return np.abs(height)
  width = spatial_shape[1]
  # As published: one column too many if the width is odd.
  across = _cycles(width)[: width // 2 + (2 if width % 2 else 1)]
  if len(spatial_shape) == 2:
    return np.hypot(height[:, None], across)
  depth = _cycles(spatial_shape[2])[:, None]
  return np.sqrt(height[:, None, None] ** 2 + depth**2 + across**2)
