"""Image filters of the corruptions: blurs, resizing, fractals, JPEG.

Unless noted otherwise, they take one image float32 `[H, W, C]`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates


def uniform(
  key: jax.Array, shape: tuple[int, ...], low: float = 0, high: float = 1
) -> jax.Array:
  """Draws uniform numbers."""
  # Drawn flat: XLA's CPU compiler is slow over random arrays of several axes.
  flat = jax.random.uniform(key, (math.prod(shape),), minval=low, maxval=high)
  return flat.reshape(shape)


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Draws standard normal numbers, flat as in `uniform`."""
  return jax.random.normal(key, (math.prod(shape),)).reshape(shape)


def correlate(image: jax.Array, kernel: jax.Array, border: str) -> jax.Array:
  """Correlates each channel with a kernel `[K, K]`; `border` as in jnp.pad."""
  high, wide = (side // 2 for side in kernel.shape)
  padded = jnp.pad(image, ((high, high), (wide, wide), (0, 0)), mode=border)
  channels = jnp.moveaxis(padded, 2, 0)[:, None]
  weights = kernel[None, None].astype(image.dtype)
  blurred = jax.lax.conv(channels, weights, (1, 1), 'VALID')
  return jnp.moveaxis(blurred[:, 0], 0, 2)


def disk(radius: float, alias: float) -> np.ndarray:
  """Returns the kernel of a lens out of focus: a disk, smoothed over 3x3."""
  x = np.arange(-3, 4)
  kernel = (x[:, None] ** 2 + x**2 <= radius**2).astype(np.float64)
  kernel /= kernel.sum()
  row = np.array([np.exp(-0.5 / alias**2), 1, np.exp(-0.5 / alias**2)])
  row /= row.sum()
  for axis in (0, 1):
    around = [w * np.roll(kernel, i - 1, axis) for i, w in enumerate(row)]
    kernel = np.sum(around, axis=0)
  return kernel


def motion_weights(radius: int, sigma: float, size: int) -> np.ndarray:
  """Returns `[size]`: half a Gaussian over 2 radius + 1 pixels, then zeros."""
  taps = np.arange(size)
  weights = np.exp(-(taps**2) / (2 * sigma**2)) * (taps <= 2 * radius)
  return weights / weights.sum()


def motion(image: jax.Array, angle: jax.Array, weights: jax.Array) -> jax.Array:
  """Blurs along `angle` (degrees), as ImageMagick's -motion-blur does.

  The first weight is that of the pixel itself. Offsets are rounded to whole
  pixels, the border is extended by its edge, and the result is rounded to
  multiples of 1/255, because ImageMagick returns bytes.
  """
  height, width, _ = image.shape
  taps = np.arange(len(weights))
  turn = jnp.deg2rad(angle)
  down = jnp.ceil(taps * jnp.sin(turn) - 0.5).astype(int)
  right = jnp.ceil(taps * jnp.cos(turn) - 0.5).astype(int)
  row = jnp.clip(jnp.arange(height) + down[:, None], 0, height - 1)
  column = jnp.clip(jnp.arange(width) + right[:, None], 0, width - 1)
  taken = image[row[:, :, None], column[:, None, :]]
  blurred = jnp.tensordot(weights.astype(image.dtype), taken, axes=1)
  return jnp.round(255 * blurred) / 255


def resize(image: jax.Array, matrix: jax.Array) -> jax.Array:
  """Applies `[new, old]` to the rows and to the columns of a square image."""
  return jnp.einsum('ih,jw,hwc->ijc', matrix, matrix, image)


def poisson_table(photons: int, size: int) -> np.ndarray:
  """Returns the Poisson distributions P(X <= n) `[256, size]`.

  Row k is that of a mean of `photons * k / 255`.
  """
  mean = np.arange(256)[:, None] / 255 * photons
  count = np.arange(size)
  factorial = np.array([math.lgamma(k + 1) for k in range(size)])
  with np.errstate(divide='ignore', invalid='ignore'):
    log = count * np.log(mean) - mean - factorial
  log[0] = np.where(count, -np.inf, 0)
  return np.cumsum(np.exp(log), axis=1)


def blur_matrix(
  side: int, sigma: float, border: Any, truncate: float = 4
) -> np.ndarray:
  """Returns `[side, side]`: a Gaussian blur, truncated at `truncate` sigmas.

  `border` is as in np.pad. Sigma 0 is the identity.
  """
  radius = int(truncate * sigma + 0.5)
  weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / (sigma or 1)) ** 2)
  rows = np.pad(np.eye(side), ((radius, radius), (0, 0)), mode=border)
  parts = [w * rows[i : i + side] for i, w in enumerate(weights)]
  return np.sum(parts, axis=0) / weights.sum()


def zoom_matrix(side: int, factor: float) -> np.ndarray:
  """Returns `[side, side]`: a linear zoom of the middle, corners aligned."""
  kept = math.ceil(side / factor)
  size = round(kept * factor)
  start, trim = (side - kept) // 2, (size - side) // 2
  at = (np.arange(side) + trim) * (kept - 1) / max(size - 1, 1)
  low = np.minimum(at.astype(int), kept - 1)
  high = np.minimum(low + 1, kept - 1)
  matrix = np.zeros((side, side))
  np.add.at(matrix, (np.arange(side), start + low), 1 - (at - low))
  np.add.at(matrix, (np.arange(side), start + high), at - low)
  return matrix


def box_matrix(old: int, new: int) -> np.ndarray:
  """Returns `[new, old]`: each pixel is the mean of the centres it covers."""
  scale = old / new
  matrix = np.zeros((new, old))
  for i in range(new):
    offset = (np.arange(old) + 0.5 - (i + 0.5) * scale) / max(scale, 1)
    matrix[i] = (offset > -0.5) & (offset <= 0.5)
  return matrix / matrix.sum(axis=1, keepdims=True)


def plasma(key: jax.Array, side: int, decay: jax.Array) -> jax.Array:
  """Returns a fractal `[side, side]` in 0..1 by diamond-square, on a torus.

  Args:
    key: random key.
    side: a power of two.
    decay: the factor by which the random part shrinks in each step.

  Raises:
    ValueError: `side` is not a power of two.
  """
  if side & (side - 1):
    raise ValueError(f'side={side} must be a power of two')
  noise = jax.random.uniform(key, (side * side,), minval=-1, maxval=1)
  field, wobble = jnp.zeros((1, 1)), 100.0

  def following(x: jax.Array, axis: int) -> jax.Array:
    return x + jnp.roll(x, -1, axis)

  def before(x: jax.Array, axis: int) -> jax.Array:
    return x + jnp.roll(x, 1, axis)

  while (count := len(field)) < side:
    # Each step makes four points of one: three of them are drawn.
    drawn = noise[count**2 : 4 * count**2].reshape(3, count, count)
    centre, top, left = wobble**2 * drawn
    centre += following(following(field, 0), 1) / 4
    top += (before(centre, 0) + following(field, 1)) / 4
    left += (before(centre, 1) + following(field, 0)) / 4
    rows = [jnp.stack(pair, 2) for pair in ((field, top), (left, centre))]
    field = jnp.stack(rows, 1).reshape(2 * count, 2 * count)
    wobble = wobble / decay
  field -= field.min()
  return field / field.max()


def sample(
  image: jax.Array, rows: jax.Array, columns: jax.Array, border: str
) -> jax.Array:
  """Samples between pixels, linearly; `border` as in jax.scipy.ndimage."""

  def read(channel):
    return map_coordinates(channel, [rows, columns], order=1, mode=border)

  return jax.vmap(read, in_axes=2, out_axes=2)(image)


# ITU-T T.81, annex K: luminance and chrominance at quality 50.
_LUMA = np.array(
  [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
  ]
)
_CHROMA = np.full((8, 8), 99)
_CHROMA[:4, :4] = [
  [17, 18, 24, 47],
  [18, 21, 26, 66],
  [24, 26, 56, 99],
  [47, 66, 99, 99],
]
_TO_YCC = np.array(
  [
    [0.299, 0.587, 0.114],
    [-0.168736, -0.331264, 0.5],
    [0.5, -0.418688, -0.081312],
  ]
)
_DCT = np.cos(np.pi / 8 * np.arange(8)[:, None] * (np.arange(8) + 0.5)) / 2
_DCT[0] /= math.sqrt(2)


def jpeg_tables(quality: int) -> np.ndarray:
  """Returns the quantisation tables `[2, 8, 8]` that libjpeg uses."""
  scale = 5000 // quality if quality < 50 else 200 - 2 * quality
  return np.clip((np.stack([_LUMA, _CHROMA]) * scale + 50) // 100, 1, 255)


def jpeg(image: jax.Array, tables: jax.Array) -> jax.Array:
  """Returns an image after JPEG compression with 4:2:0 chroma subsampling.

  Args:
    image: RGB of 0 to 255.
    tables: of `jpeg_tables`.

  Raises:
    ValueError: a side is not a multiple of 16.
  """
  if image.shape[0] % 16 or image.shape[1] % 16:
    raise ValueError(
      f'image.shape={image.shape} must have sides that are multiples of 16'
    )
  colours = jnp.round(image @ jnp.asarray(_TO_YCC.T, jnp.float32))
  luma = _quantise(colours[..., 0] - 128, tables[0]) + 128
  chroma = [
    _double(_quantise(_halve(colours[..., i]), tables[1])) for i in (1, 2)
  ]
  ycc = jnp.stack([luma, *chroma], 2)
  back = jnp.asarray(np.linalg.inv(_TO_YCC).T, jnp.float32)
  return jnp.clip(jnp.round(ycc @ back), 0, 255)


def _quantise(plane: jax.Array, table: jax.Array) -> jax.Array:
  height, width = plane.shape
  blocks = plane.reshape(height // 8, 8, width // 8, 8)
  dct = jnp.asarray(_DCT, jnp.float32)
  coded = jnp.einsum('ui,vj,aibj->aubv', dct, dct, blocks)
  step = table.astype(jnp.float32)[None, :, None]
  coded = jnp.round(coded / step) * step
  decoded = jnp.einsum('ui,vj,aubv->aibj', dct, dct, coded)
  return jnp.clip(jnp.round(decoded), -128, 127).reshape(height, width)


def _halve(plane: jax.Array) -> jax.Array:
  height, width = plane.shape
  sums = plane.reshape(height // 2, 2, width // 2, 2).sum((1, 3))
  # Halves are alternately rounded down and up, as in libjpeg.
  return jnp.floor((sums + 1 + np.arange(width // 2) % 2) / 4)


def _double(plane: jax.Array) -> jax.Array:
  """Upsamples both axes: 3/4 of the nearer pixel and 1/4 of the other."""
  for axis in (0, 1):
    pads = [(1, 1) if i == axis else (0, 0) for i in (0, 1)]
    padded = jnp.pad(plane, pads, mode='edge')
    count = plane.shape[axis]
    before = jax.lax.slice_in_dim(padded, 0, count, axis=axis)
    after = jax.lax.slice_in_dim(padded, 2, count + 2, axis=axis)
    pair = [3 * plane + before, 3 * plane + after]
    if axis == 1:
      pair = [
        jnp.floor((x + y) / 16) for x, y in zip(pair, (8, 7), strict=True)
      ]
    shape = list(plane.shape)
    shape[axis] *= 2
    plane = jnp.stack(pair, axis + 1).reshape(shape)
  return plane
