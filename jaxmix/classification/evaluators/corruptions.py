"""The fifteen common corruptions of CIFAR-10-C and CIFAR-100-C, on the device.

Hendrycks and Dietterich, Benchmarking neural network robustness to common
corruptions and perturbations, ICLR 2019, with the strengths of the authors'
`make_cifar_c.py` (hendrycks/robustness at ca36008). The files that they
published were drawn from a random state that is not known. Images that are
corrupted here are called regenerated: they have the same distributions.

Each corruption is a function `(key, image, level)`: it maps one image float32
`[H, W, 3]`, with values k/255 for k in 0..255, to such an image. `level` is the
severity less one, an int array, so that all severities are one compiled
program. `corrupt` corrupts a batch.

Apart from the random numbers, two things differ from the authors' program:
frost is drawn, where they took photographs, and warps interpolate without
rounding to 1/32 of a pixel.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix.classification.evaluators import filters

Corruption = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def gaussian_noise(key, image, level):
  """Adds normal noise to each value."""
  std = _at(level, (0.04, 0.06, 0.08, 0.09, 0.10))
  return image + std * filters.normal(key, image.shape)


def shot_noise(key, image, level):
  """Draws each value from a Poisson distribution of photons."""
  photons = (500, 250, 100, 75, 50)
  at_most = _at(level, [filters.poisson_table(n, 1024) for n in photons])
  value = jnp.round(255 * image).astype(int)
  chance = filters.uniform(key, image.shape)
  # Inverts the cumulative distribution by bisection, in ten reads.
  # jax.random.poisson takes 20 times as long on a CPU.
  count = jnp.zeros_like(value)
  for bit in reversed(range(10)):
    below = count + (1 << bit)
    count = jnp.where(at_most[value, below - 1] <= chance, below, count)
  return count / _at(level, photons)


def impulse_noise(key, image, level):
  """Sets values to 0 or 1."""
  amount = _at(level, (0.01, 0.02, 0.03, 0.05, 0.07))
  chance = filters.uniform(key, image.shape)
  image = jnp.where(chance < amount, 1, image)
  return jnp.where(chance < amount / 2, 0, image)


def defocus_blur(key, image, level):
  """Blurs by a disk."""
  del key
  lenses = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
  kernel = _at(level, [filters.disk(*lens) for lens in lenses])
  return filters.correlate(image, kernel, 'reflect')


def glass_blur(key, image, level):
  """Blurs, moves pixels by up to one, and blurs.

  The authors intend to swap neighbours, but overwrite one by the other, because
  numpy's rows are views. Their files have that, and so does this function.
  """
  side, sigmas = len(image), (0.05, 0.25, 0.4, 0.25, 0.4)
  blur = _at(level, [filters.blur_matrix(side, s, 'edge') for s in sigmas])
  image = filters.resize(image, blur)
  image = jnp.floor(255 * image + _WHOLE) / 255
  row, column = jnp.arange(side)[:, None], jnp.arange(side)
  inside = (row > 1) & (column > 1)
  moves = filters.uniform(key, (2, 2, side, side)) < 0.5
  for step, least in enumerate((0, 3)):  # twice from the fourth severity on
    up, left = moves[step] & inside & (level >= least)
    image = image[row - up, column - left]
  return filters.resize(image, blur)


def motion_blur(key, image, level):
  """Blurs along a direction within 45 degrees of the horizontal."""
  settings = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
  weights = _at(level, [filters.motion_weights(*s, 19) for s in settings])
  angle = jax.random.uniform(key, minval=-45, maxval=45)
  return filters.motion(image, angle, weights)


def zoom_blur(key, image, level):
  """Averages the image with zooms of itself."""
  del key
  factors = np.arange(1, 1.26, 0.01)
  # The lengths of np.arange(1, 1.06, 0.01) and so on, with their rounding.
  used = _at(level, (7, 12, 16, 21, 26))
  matrices = np.stack([filters.zoom_matrix(len(image), f) for f in factors])
  near = jax.vmap(filters.resize, (None, 0))(image, jnp.asarray(matrices))
  weights = (np.arange(26) < used).astype(image.dtype)
  return (image + jnp.tensordot(weights, near, axes=1)) / (used + 1)


def snow(key, image, level):
  """Whitens the image and adds streaks from both sides."""
  mean = _at(level, (0.1, 0.1, 0.15, 0.25, 0.3))
  std = _at(level, (0.2, 0.2, 0.3, 0.3, 0.3))
  zooms = (1, 1, 1.75, 2.25, 1.25)
  zoom = _at(level, [filters.zoom_matrix(len(image), z) for z in zooms])
  least = _at(level, (0.6, 0.5, 0.55, 0.6, 0.65))
  blurs = ((8, 3), (10, 4), (10, 4), (12, 6), (14, 12))
  weights = _at(level, [filters.motion_weights(*b, 29) for b in blurs])
  kept = _at(level, (0.95, 0.9, 0.9, 0.85, 0.8))
  flakes, way = jax.random.split(key)
  layer = mean + std * filters.normal(flakes, (*image.shape[:2], 1))
  layer = filters.resize(layer, zoom)
  layer = jnp.where(layer < least, 0, jnp.clip(layer, 0, 1))
  angle = jax.random.uniform(way, minval=-135, maxval=-45)
  layer = filters.motion(jnp.floor(255 * layer) / 255, angle, weights)
  grey = image @ jnp.array([[0.299], [0.587], [0.114]])
  pale = kept * image + (1 - kept) * jnp.maximum(image, 1.5 * grey + 0.5)
  return pale + layer + jnp.rot90(layer, 2)


def frost(key, image, level):
  """Adds ice to a darker image: ridges of a fractal, bluish white.

  The authors use crops of five photographs that they cannot redistribute.
  """
  kept = _at(level, (1, 1, 0.9, 0.85, 0.75))
  ice = _at(level, (0.2, 0.3, 0.4, 0.4, 0.45))
  ridges = 1 - 2 * jnp.abs(_plasma(key, image, jnp.float32(1.7)) - 0.5)
  return kept * image + ice * ridges * jnp.array([0.85, 0.95, 1.0])


def fog(key, image, level):
  """Adds a fractal and keeps the maximum of the image."""
  thick = _at(level, (0.2, 0.5, 0.75, 1, 1.5))
  decay = _at(level, (3, 3, 2.5, 2, 1.75))
  most = image.max()
  foggy = image + thick * _plasma(key, image, decay)
  return foggy * most / jnp.maximum(most + thick, 1e-9)


def brightness(key, image, level):
  """Raises the value in HSV."""
  del key
  value = image.max(axis=2, keepdims=True)
  wanted = jnp.clip(value + _at(level, (0.05, 0.1, 0.15, 0.2, 0.3)), 0, 1)
  scaled = image / jnp.maximum(value, 1e-9) * wanted
  return jnp.where(value > 0, scaled, wanted)


def contrast(key, image, level):
  """Moves each channel towards its mean."""
  del key
  means = image.mean(axis=(0, 1), keepdims=True)
  return (image - means) * _at(level, (0.75, 0.5, 0.4, 0.3, 0.15)) + means


def elastic_transform(key, image, level):
  """Warps by an affine map of three points and a smooth random field."""
  side = len(image)
  far = side * _at(level, (0, 0.05, 0.08, 0.1, 0.1))
  smooth = side * np.array([0, 0.2, 0.06, 0.04, 0.03])
  matrices = [filters.blur_matrix(side, s, 'symmetric', 3) for s in smooth]
  corners = side * _at(level, (0.08, 0.07, 0.06, 0.05, 0.03))
  drawn = filters.uniform(key, (6 + 2 * side * side,), -1, 1)
  middle, third = side // 2, side // 3
  points = np.array([[1, 1], [1, -1], [-1, -1]]) * third + middle  # x, y
  moved = points + corners * drawn[:6].reshape(3, 2)
  y, x = jnp.meshgrid(jnp.arange(side), jnp.arange(side), indexing='ij')
  # The source of each pixel: the map that takes the moved points back.
  origin, along, across = moved[1], moved[0] - moved[1], moved[2] - moved[1]
  offset = jnp.stack([x, y], 2) - origin
  area = along[0] * across[1] - along[1] * across[0]
  down = (offset[..., 0] * across[1] - offset[..., 1] * across[0]) / area
  left = (offset[..., 1] * along[0] - offset[..., 0] * along[1]) / area
  from_x = points[1, 0] - 2 * third * left
  from_y = points[1, 1] + 2 * third * down
  image = filters.sample(image, from_y, from_x, 'mirror')
  fields = drawn[6:].reshape(side, side, 2)
  shift = far * filters.resize(fields, _at(level, matrices))
  return filters.sample(image, y + shift[..., 0], x + shift[..., 1], 'reflect')


def pixelate(key, image, level):
  """Shrinks and enlarges with box filters, rounding to 1/255."""
  del key
  side = len(image)
  smaller = [int(side * kept) for kept in (0.95, 0.9, 0.85, 0.75, 0.65)]
  shrink, enlarge = np.zeros((2, 5, side, side))
  for i, small in enumerate(smaller):
    shrink[i, :small] = filters.box_matrix(side, small)
    enlarge[i, :, :small] = filters.box_matrix(small, side)
  image = filters.resize(image, _at(level, shrink))
  image = jnp.floor(255 * image + 0.5) / 255
  return filters.resize(image, _at(level, enlarge))


def jpeg_compression(key, image, level):
  """Compresses as JPEG and decompresses."""
  del key
  tables = [filters.jpeg_tables(q) for q in (80, 65, 58, 50, 40)]
  return filters.jpeg(255 * image, _at(level, tables)) / 255


# In the order of the paper's tables.
CORRUPTIONS: Mapping[str, Corruption] = {
  function.__name__: function
  for function in (
    *(gaussian_noise, shot_noise, impulse_noise),
    *(defocus_blur, glass_blur, motion_blur, zoom_blur),
    *(snow, frost, fog, brightness),
    *(contrast, elastic_transform, pixelate, jpeg_compression),
  )
}
SEVERITIES = (1, 2, 3, 4, 5)


# Added before values are truncated, so that rounding errors do not lower whole
# numbers.
_WHOLE = 1e-3


def corrupt(
  name: str,
  severity: int | jax.Array,
  images: jax.Array,
  index: jax.Array,
) -> jax.Array:
  """Returns a corrupted batch; it depends on the arguments alone.

  Args:
    name: one of `CORRUPTIONS`.
    severity: 1 to 5.
    images: uint8 `[B, S, S, 3]`, S a multiple of 16.
    index: int `[B]`, each image's position in the split. It determines the
      random numbers, so that an image has the same corruption in every batch
      and on every device.

  Returns:
    uint8 `[B, S, S, 3]`.

  Raises:
    ValueError: the name, or the severity if it is an int, is unknown.

  >>> images = jnp.full((1, 16, 16, 3), 100, jnp.uint8)
  >>> corrupt('brightness', 2, images, jnp.arange(1))[0, 0, 0]
  Array([125, 125, 125], dtype=uint8)
  """
  if name not in CORRUPTIONS:
    raise ValueError(f'name={name!r} must be one of {", ".join(CORRUPTIONS)}')
  if isinstance(severity, int) and severity not in SEVERITIES:
    raise ValueError(f'severity={severity} must be one of {SEVERITIES}')
  number, severity = list(CORRUPTIONS).index(name), jnp.asarray(severity)
  root = jax.random.fold_in(jax.random.key(0), 5 * number + severity)

  def one(image, index):
    key = jax.random.fold_in(root, index)
    pixels = image.astype(jnp.float32) / 255
    pixels = CORRUPTIONS[name](key, pixels, severity - 1)
    # The authors truncate, they do not round.
    return (255 * jnp.clip(pixels, 0, 1) + _WHOLE).astype(jnp.uint8)

  # float32 on every device: less would be another corruption.
  with jax.default_matmul_precision('highest'):
    return jax.vmap(one)(images, index)


def _at(level: jax.Array, table: Any) -> jax.Array:
  return jnp.asarray(np.asarray(table, np.float32))[level]


def _plasma(key: jax.Array, image: jax.Array, decay: jax.Array) -> jax.Array:
  height, width, _ = image.shape
  side = 1 << (max(height, width) - 1).bit_length()
  return filters.plasma(key, side, decay)[:height, :width, None]
