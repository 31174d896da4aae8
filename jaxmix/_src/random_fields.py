"""Low-frequency random fields: the grey images that FMix thresholds.

Each function is deterministic in its `noise`, standard normal numbers of the
shape that `*_noise_shape` gives, so that a law can be tested exactly.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

# The share of a field's variance that may be left out. What is left out lies
# far above the frequencies that shape the mask (at 224x224 it moves its border
# by about a twentieth of a pixel); what is saved is most of the random numbers.
_NEGLECTED_VARIANCE = 1e-5


def isotropic_noise_shape(
  space: tuple[int, ...], decay_power: float
) -> tuple[int, ...]:
  """The shape of the noise of `isotropic_field`: real and imaginary parts."""
  kept = _kept_frequencies(space, decay_power)
  return (2, *(len(indices) for indices in kept))


def isotropic_field(
  noise: jax.Array, space: tuple[int, ...], decay_power: float
) -> jax.Array:
  """White noise filtered by `1 / frequency^decay_power` (FMix, section 3).

  The filter sees the length of the frequency vector alone, in cycles per
  pixel, so no direction is preferred. The upper half of a real field's
  spectrum follows from the lower, so only half is drawn and counted twice. The
  planes of the last axis that are their own mirror image are drawn whole, so
  each of their waves, whose real part alone counts, has a factor sqrt(2).

  Args:
    noise: float32 `[n, 2, ...]`, see `isotropic_noise_shape`.
    space: the lengths of the field, at least one.
    decay_power: how fast the amplitude falls with the frequency, 0 or more.

  Returns:
    float32 `[n, *space]`, of mean 0 and no particular scale.

  >>> shape = isotropic_noise_shape((8, 8), 3.0)
  >>> isotropic_field(jnp.ones((5, *shape)), (8, 8), 3.0).shape
  (5, 8, 8)
  """
  kept = _kept_frequencies(space, decay_power)
  grid = np.meshgrid(
    *(_cycles(n)[indices] for n, indices in zip(space, kept, strict=True)),
    indexing='ij',
  )
  frequency = np.sqrt(sum(np.square(axis) for axis in grid))
  lowest = 1 / max(space)
  amplitude = np.where(
    frequency > 0,
    (np.maximum(frequency, lowest) / lowest) ** -decay_power,
    0,
  )
  own_mirror = (kept[-1] == 0) | (2 * kept[-1] == space[-1])
  amplitude = amplitude * np.where(own_mirror, math.sqrt(2), 2)
  # The inverse transform of so few frequencies is one small matrix product for
  # each axis, several times faster than an FFT of the padded spectrum. Axes:
  # noise, (real, imaginary), frequencies still to do, lengths done.
  field = noise * amplitude.astype(np.float32)
  summed = (1, 2)
  for axis, (length, indices) in enumerate(zip(space, kept, strict=True)):
    waves = _waves(length, indices)
    if axis == len(space) - 1:
      waves = waves[:, :, 0]  # the real part is the field
    field = jnp.tensordot(
      field, waves, axes=(summed, (0, 1)), precision=jax.lax.Precision.HIGHEST
    )
    summed = (field.ndim - 2, 1)
  return field


def _waves(length: int, indices: np.ndarray) -> np.ndarray:
  """`exp(2 pi i k x / length)` as a real map of (real, imaginary) pairs.

  Returns:
    float32 `[2, k, 2, length]`: part and frequency in, part and place out.
  """
  phase = 2 * np.pi * np.outer(indices, np.arange(length)) / length
  cos, sin = np.cos(phase), np.sin(phase)
  waves = np.stack([[cos, sin], [-sin, cos]])
  return np.moveaxis(waves, 1, 2).astype(np.float32)


def official_noise_shape(space: tuple[int, ...]) -> tuple[int, ...]:
  """The shape of the noise of `official_field`."""
  return (2, *_official_frequencies(space).shape[1:], 2)


def official_field(
  noise: jax.Array, space: tuple[int, ...], decay_power: float
) -> jax.Array:
  """What the code published with FMix computes, for parity with its numbers.

  It differs from its paper. The random spectrum has a last axis (real,
  imaginary), but the code indexes the first one: of all rows it takes row 0
  for the real and row 1 for the imaginary part, and hands the inverse
  transform an array whose horizontal axis is (real, imaginary), which is padded
  with zeros. So in a 2-D field no row varies faster than once across the image
  (and a 1-D mask is always one run).

  Args:
    noise: float32 `[n, 2, ...]`, see `official_noise_shape`: rows 0 and 1 of
      the official array of normal numbers.
    space: one, two or three lengths.
    decay_power: the exponent of the frequency.

  Returns:
    float32 `[n, *space]`.
  """
  frequency = _official_frequencies(space)
  # The scale of a field is of no account, but float32 has to hold it: the
  # frequency is counted from the lowest.
  times = np.maximum(frequency * max(space), 1)[:2, ..., None]
  amplitude = times ** -float(decay_power)
  spectrum = noise * amplitude.astype(np.float32)
  spectrum = jax.lax.complex(spectrum[:, 0], spectrum[:, 1])
  axes = range(1, len(space) + 1)
  return jnp.fft.irfftn(spectrum, s=space, axes=tuple(axes))


def _cycles(length: int) -> np.ndarray:
  """Cycles per pixel of each index of a transform of this length."""
  return np.fft.fftfreq(length)


def _kept_frequencies(
  space: tuple[int, ...], decay_power: float
) -> list[np.ndarray]:
  """For each axis the indices of the frequencies worth drawing.

  The variance beyond `k` times the lowest frequency is about
  `k^(d - 2 decay) / (2 decay - d)` of the whole.
  """
  slope = 2 * decay_power - len(space)
  highest = 0.5
  if slope > 0:
    log_times = -math.log(_NEGLECTED_VARIANCE * slope) / slope
    if log_times < math.log(max(space)):
      highest = min(highest, math.ceil(math.exp(log_times)) / max(space))
  kept = []
  for axis, length in enumerate(space):
    most = math.ceil(highest * length)
    cycles = np.round(_cycles(length) * length).astype(int)
    indices = np.flatnonzero(np.abs(cycles) <= most)
    if axis == len(space) - 1:
      indices = indices[indices <= length // 2]
    kept.append(indices)
  return kept


def _official_frequencies(space: tuple[int, ...]) -> np.ndarray:
  """The published frequency table, with its axes (height, depth, width)."""
  height = _cycles(space[0])
  if len(space) == 1:
    return np.abs(height)
  width = space[1]
  # One column too many where the width is odd.
  across = _cycles(width)[: width // 2 + (2 if width % 2 else 1)]
  if len(space) == 2:
    return np.hypot(height[:, None], across)
  depth = _cycles(space[2])[:, None]
  return np.sqrt(height[:, None, None] ** 2 + depth**2 + across**2)
