"""ResizeMix: Qin et al., arXiv 2012.11101."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.batch import mix_batch, second_batch
from jaxmix._src.boxes import fraction_outside, make_box, pixel_of
from jaxmix._src.checks import check_choice
from jaxmix._src.mix import Mix
from jaxmix._src.settings import in_any_setting
from jaxmix._src.spatial_axes import named_shape, spread
from jaxmix._src.start import start_draw

RESIZE_METHODS = ('nearest', 'linear', 'cubic')


def paste_box(
  scale: jax.Array, centre: jax.Array, spatial_shape: tuple[int, ...]
) -> jax.Array:
  """Returns the box of a partner shrunk by `scale`, moved inside the image.

  As in the official code: size `floor(L * scale)` (here at least one pixel),
  start `centre - size // 2`, moved inside the image. The starts are therefore
  not uniform: the borders are likelier.

  Args:
    scale: float32 `[n]` in (0, 1].
    centre: int32 `[n, d]`.
    spatial_shape: the `d` lengths of the image.

  Returns:
    int32 `[n, d, 2]`.

  >>> paste_box(jnp.array([0.5]), jnp.array([[0, 15]]), (32, 32)).tolist()
  [[[0, 16], [7, 23]]]
  """
  length = jnp.asarray(spatial_shape, jnp.int32)
  size = (scale[:, None] * length).astype(jnp.int32)
  size = jnp.maximum(size, 1)
  start = jnp.clip(centre - size // 2, 0, length - size)
  return make_box(start, size)


def shrink_source(
  scale: jax.Array, start: jax.Array, spatial_shape: tuple[int, ...]
) -> tuple[jax.Array, ...]:
  """Returns the partner's index that each pixel reads: `floor(i / scale)`.

  The official rule, equal to torch's `interpolate(mode='nearest')`;
  `jax.image.resize(method='nearest')` reads at pixel centres instead.

  Args:
    scale: float32 `[n]` in (0, 1].
    start: int32 `[n, d]`: the first pixel of the shrunk partner.
    spatial_shape: the `d` lengths of the image.

  Returns:
    For each axis int32 `[n, length]`.

  >>> rows, = shrink_source(jnp.array([0.5]), jnp.array([[1]]), (6,))
  >>> rows[0, 1:4].tolist()  # three pixels, pasted from index 1
  [0, 2, 4]
  """
  source = []
  for axis, length in enumerate(spatial_shape):
    pixel = jnp.arange(length, dtype=jnp.int32) - start[:, axis, None]
    index = jnp.floor(pixel / scale[:, None]).astype(jnp.int32)
    source.append(jnp.clip(index, 0, length - 1))
  return tuple(source)


@in_any_setting
def draw_resizemix(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  scale: tuple[float, float] = (0.1, 0.8),
  method: str = 'nearest',
  pairing: str = 'permutation',
  spatial_axes: tuple[int, ...] | None = None,
  granularity: str = 'batch',
  partner: ArrayLike | None = None,
) -> Mix:
  """Draws a ResizeMix: the whole partner, shrunk, at a random position.

  The official distribution: the scale is uniform and the same for the batch;
  the position is drawn for each sample; `lam` is exactly the fraction of the
  own pixels that remain. There is no alpha.

  Args:
    key: random key.
    shape: `[B, *spatial, C]`, the shape of the images.
    scale: range `(low, high)` within (0, 1] of the uniform distribution of the
      ratio of the sides.
    method: `'nearest'` (the official rule; one gather), `'linear'` or
      `'cubic'` (antialiased, equal to `jax.image.resize` at the size drawn;
      two matmuls over the batch).
    pairing: how partners are chosen, see `jaxmix.draw_partner`.
    spatial_axes: see `jaxmix.draw_cutmix`.
    granularity: `'batch'`: one scale for the whole batch. `'sample'`: a scale
      for each sample.
    partner: see `jaxmix.draw_cutmix`.

  Returns:
    A `Mix` with `box` and `source`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> mix = draw_resizemix(jax.random.key(0), (4, 32, 32, 3))
  >>> bool(((mix.lam > 0.35) & (mix.lam < 1)).all())
  True
  """
  check_choice('method', method, RESIZE_METHODS)
  low, high = check_scale(scale)
  inner = named_shape(shape, spatial_axes)
  start = start_draw(
    key,
    inner,
    pairing=pairing,
    granularity=granularity,
    partner=partner,
    last='position',
  )
  spatial_shape = start.spatial_shape
  number = jnp.broadcast_to(start.ratio, (start.batch,))
  drawn = jnp.clip(low + (high - low) * number, low, high)
  centre = pixel_of(start.position, spatial_shape)
  box = paste_box(drawn, centre, spatial_shape)
  mix = Mix(
    lam=fraction_outside(box, spatial_shape),
    partner=start.partner,
    box=box,
    source=shrink_source(drawn, box[..., 0], spatial_shape),
    method=method,
  )
  return spread(mix, shape, spatial_axes)


def check_scale(scale: tuple[float, float]) -> tuple[float, float]:
  """Raises ValueError unless `scale` is a range within (0, 1]."""
  try:
    low, high = (float(value) for value in scale)
  except (TypeError, ValueError):
    raise ValueError(
      f'scale={scale!r} must be two numbers (low, high).'
    ) from None
  if not 0 < low <= high <= 1:
    raise ValueError(f'scale={scale!r} must satisfy 0 < low <= high <= 1.')
  return low, high


def resizemix(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
  where: ArrayLike | None = None,
  scale: tuple[float, float] = (0.1, 0.8),
  method: str = 'nearest',
  pairing: str = 'permutation',
  spatial_axes: tuple[int, ...] | None = None,
  granularity: str = 'batch',
  partner_images: ArrayLike | None = None,
  partner_labels: ArrayLike | None = None,
  lengths: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
  """ResizeMix: the shrunk partner is pasted onto each image.

  Args:
    key: random key.
    images: `[B, *spatial, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    label_smoothing: see `jaxmix.random_mix`.
    where: see `jaxmix.random_mix`.
    scale: see `jaxmix.draw_resizemix`.
    method: see `jaxmix.draw_resizemix`.
    pairing: see `jaxmix.draw_resizemix`.
    spatial_axes: see `jaxmix.draw_cutmix`.
    granularity: see `jaxmix.draw_resizemix`.
    partner_images: see `jaxmix.random_mix`.
    partner_labels: see `jaxmix.random_mix`.
    lengths: see `jaxmix.random_mix`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.array([0, 1, 2, 0])
  >>> mix = jax.jit(resizemix, static_argnames='num_classes')
  >>> _, mixed = mix(jax.random.key(0), images, labels, num_classes=3)
  >>> bool(jnp.allclose(mixed.sum(1), 1))
  True
  """
  mix = draw_resizemix(
    key,
    jnp.shape(images),
    scale=scale,
    method=method,
    pairing=pairing,
    spatial_axes=spatial_axes,
    granularity=granularity,
    partner=second_batch(images, partner_images),
  )
  return mix_batch(
    mix,
    images,
    labels,
    num_classes=num_classes,
    label_smoothing=label_smoothing,
    where=where,
    partner_images=partner_images,
    partner_labels=partner_labels,
    lengths=lengths,
  )
