"""FMix: Harris et al., arXiv 2002.12047."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src import random_fields
from jaxmix._src.batch import mix_batch, second_batch
from jaxmix._src.boxes import pixel_of
from jaxmix._src.checks import check_choice, check_number
from jaxmix._src.mix import Mix
from jaxmix._src.platform import by_platform
from jaxmix._src.ratio import is_uniform, last_number, nan_if_invalid, ratio_of
from jaxmix._src.settings import in_any_setting
from jaxmix._src.spatial_axes import named_shape, spread
from jaxmix._src.start import more_numbers, start_draw

SPECTRA = ('isotropic', 'official')


def mask_above(
  field: jax.Array, pixel: jax.Array, included: jax.Array
) -> jax.Array:
  """Returns a mask of the pixels that are brighter than a given one.

  A pixel drawn uniformly has a uniform rank, so the number of brighter pixels
  is uniform as well. A uniform ratio therefore needs no search for its
  threshold: the threshold is the value of a random pixel.

  Args:
    field: float32 `[n, *spatial]`.
    pixel: int32 `[n, d]`, the pixel whose value is the threshold.
    included: bool `[n]`, whether pixels equal to the threshold are included.

  Returns:
    bool `[n, *spatial]`.

  >>> field = jnp.array([[0.5, -1.0, 2.0, 0.7]])
  >>> mask_above(field, jnp.array([[3]]), jnp.array([True])).tolist()
  [[False, False, True, True]]
  """
  sample = jnp.arange(len(field))
  value = field[(sample, *pixel.T)].reshape([-1] + [1] * (field.ndim - 1))
  included = included.reshape(value.shape)
  return (field > value) | (included & (field == value))


@jax.jit  # without it, an eager call would compile the loop every time
def top_mask(field: jax.Array, count: jax.Array) -> jax.Array:
  """Returns a mask of exactly the `count` largest pixels, without a sort.

  The bits of a float, read as an integer, have the order of the floats, so 31
  steps of bisection over the bits find the value of rank `count` exactly. Each
  step is one comparison and one sum. Several pixels can be equal to that value;
  of these as many as are needed are included, from the left.

  Args:
    field: float32 `[n, *spatial]`, without NaN.
    count: int32 `[n]`, from 0 to the number of pixels.

  Returns:
    bool `[n, *spatial]`.

  >>> top_mask(jnp.array([[0.5, -1.0, 2.0, 0.5]]), jnp.array([2])).tolist()
  [[True, False, True, False]]
  """
  field = jnp.where(field == 0, 0.0, field)  # -0.0 has other bits
  float_bits = jax.lax.bitcast_convert_type(field, jnp.int32)
  order = float_bits ^ ((float_bits >> 31) & 0x7FFFFFFF)
  rows = order.reshape(len(order), -1, field.shape[-1])

  def at_least(value: jax.Array) -> jax.Array:
    return _count(rows >= value[:, None, None])

  negative = at_least(jnp.zeros_like(count)) < count
  start = jnp.where(negative, jnp.iinfo(jnp.int32).min, 0)

  def halve(step: jax.Array, value: jax.Array) -> jax.Array:
    higher = value + (jnp.int32(1) << (30 - step))
    return jnp.where(at_least(higher) >= count, higher, value)

  threshold = jax.lax.fori_loop(0, 31, halve, start)[:, None, None]
  above, tied = rows > threshold, rows == threshold
  # Fill up with tied pixels, column by column: whole columns up to the last
  # one, and the top of the last one.
  missing = count - _count(above)
  seen = jnp.cumsum(_count_columns(tied), axis=1)
  last = jnp.argmax(seen >= missing[:, None], axis=1)
  before = jnp.take_along_axis(
    jnp.pad(seen, ((0, 0), (1, 0))), last[:, None], 1
  )
  in_last = jnp.take_along_axis(tied, last[:, None, None], axis=2)[..., 0]
  depth = jnp.argmax(
    jnp.cumsum(in_last, 1) >= missing[:, None] - before, axis=1
  )
  column = jnp.arange(rows.shape[2])
  row = jnp.arange(rows.shape[1])[:, None]
  last, depth = last[:, None, None], depth[:, None, None]
  first = (column < last) | ((column == last) & (row <= depth))
  mask = (above | (tied & first)) & (count > 0)[:, None, None]
  return mask.reshape(field.shape)


def count_pixels(mask: jax.Array) -> jax.Array:
  """Counts True in each mask: bool `[n, *spatial]` to int32 `[n]`."""
  return by_platform(
    mask.reshape(len(mask), -1, mask.shape[-1]),
    cpu=_count,
    # One kernel; the narrow sums of a CPU are two.
    default=lambda mask: jnp.sum(mask, axis=(1, 2), dtype=jnp.int32),
  )


def _count(pixels: jax.Array) -> jax.Array:
  """Counts True in each plane: bool `[n, i, j]` to int32 `[n]`."""
  return jnp.sum(_count_columns(pixels), axis=1, dtype=jnp.int32)


def _count_columns(pixels: jax.Array) -> jax.Array:
  """Counts True in each column: bool `[n, i, j]` to int32 `[n, j]`."""
  # int16 where it is large enough: three times as fast on a CPU.
  dtype = jnp.int16 if pixels.shape[1] < 2**15 else jnp.int32
  return jnp.sum(pixels, axis=1, dtype=dtype).astype(jnp.int32)


def soft_mask(
  field: jax.Array, count: jax.Array, ratio: jax.Array, max_soft: float
) -> jax.Array:
  """Returns a mask of the `count` largest pixels, with a soft border.

  The weights in the border fall linearly with the rank of the pixel.

  Args:
    field: float32 `[n, *spatial]`.
    count: int32 `[n]`.
    ratio: float32 `[n]`: lambda before it was rounded to a count.
    max_soft: fraction of the pixels in the border on each side; at most the
      smaller of `ratio` and `1 - ratio` is used.

  Returns:
    float32 `[n, *spatial]` in [0, 1], whose sum is `count`.
  """
  flat = field.reshape(len(field), -1)
  size = flat.shape[1]
  order = jnp.argsort(-flat, axis=1)
  rank = jnp.argsort(order, axis=1)
  fraction = jnp.minimum(max_soft, jnp.minimum(ratio, 1 - ratio))
  soft = jnp.floor(size * fraction).astype(jnp.int32)
  soft = jnp.minimum(soft, jnp.minimum(count, size - count))[:, None]
  step = rank - (count[:, None] - soft)
  fall = 1 - step / jnp.maximum(2 * soft - 1, 1)
  sharp = (rank < count[:, None]).astype(jnp.float32)
  mask = jnp.where(soft == 0, sharp, jnp.clip(fall, 0, 1))
  return mask.reshape(field.shape)


@in_any_setting
def draw_fmix(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  alpha: Any = 1.0,
  spectrum: str = 'isotropic',
  decay_power: float = 3.0,
  max_soft: float = 0.0,
  pairing: str = 'permutation',
  spatial_axes: tuple[int, ...] | None = None,
  granularity: str = 'batch',
  partner: ArrayLike | None = None,
) -> Mix:
  """Draws an FMix: the brightest pixels of a smooth random field are kept.

  The ratio is drawn from Beta(alpha, alpha). Of N pixels, floor or ceil of
  `ratio * N` are kept, chosen by a fair coin, and `lam` is that number over N,
  so labels and pixels agree exactly. With alpha 1 the same distribution is
  drawn without a ratio, see `mask_above`: the threshold is the value of a
  random pixel.

  Args:
    key: random key.
    shape: `[B, *spatial, C]` with one, two or three spatial axes.
    alpha: see `jaxmix.draw_cutmix`.
    pairing: see `jaxmix.draw_cutmix`.
    spatial_axes: see `jaxmix.draw_cutmix`.
    granularity: see `jaxmix.draw_cutmix`.
    spectrum: `'isotropic'` as in the paper, or `'official'` as in its code
      (see `jaxmix._src.random_fields.official_field`).
    decay_power: from 0.001 to 1000; larger values give smoother masks.
    max_soft: softness of the border of the masks, in [0, 0.5]. Above 0 the
      masks are float32 and are found by a sort.
    partner: see `jaxmix.draw_cutmix`.

  Returns:
    A `Mix` with `mask`, bool if `max_soft` is 0.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> mix = draw_fmix(jax.random.key(0), (4, 32, 32, 3))
  >>> bool(jnp.allclose(mix.mask.mean(), mix.lam))
  True
  """
  check_choice('spectrum', spectrum, SPECTRA)
  check_number('max_soft', max_soft, 0, 0.5)
  check_number('decay_power', decay_power, 1e-3, 1e3)
  inner = named_shape(shape, spatial_axes)
  start = start_draw(
    key,
    inner,
    pairing=pairing,
    granularity=granularity,
    partner=partner,
    last=last_number(alpha, 'coin'),
  )
  spatial_shape = start.spatial_shape
  if len(spatial_shape) > 3:
    raise ValueError(
      f'shape={list(shape)} has {len(spatial_shape)} spatial axes; FMix allows '
      'one to three.'
    )
  count = start.count
  up = start.coin < 0.5
  field = _draw_field(key, inner, count, spectrum, decay_power)
  pixels = math.prod(spatial_shape)
  if is_uniform(alpha) and not max_soft:
    pixel = pixel_of(start.position[:count], spatial_shape)
    mask = mask_above(field, pixel, up)
    lam = count_pixels(mask) / pixels
  else:
    ratio = ratio_of(start.ratio, start.angle, alpha)
    wanted = ratio * pixels
    kept = jnp.where(up, jnp.ceil(wanted), jnp.floor(wanted)).astype(jnp.int32)
    if max_soft:
      mask = soft_mask(field, kept, ratio, max_soft)
    else:
      mask = top_mask(field, kept)
    lam = nan_if_invalid(kept / pixels, alpha)
  mix = Mix(
    lam=jnp.broadcast_to(lam, (start.batch,)).astype(jnp.float32),
    partner=start.partner,
    mask=mask,
  )
  return spread(mix, shape, spatial_axes)


def _draw_field(
  key: jax.Array,
  shape: tuple[int, ...],
  count: int,
  spectrum: str,
  decay_power: float,
) -> jax.Array:
  spatial_shape = shape[1:-1]
  if spectrum == 'isotropic':
    noise_shape = random_fields.isotropic_noise_shape(
      spatial_shape, decay_power
    )
    make_field = random_fields.isotropic_field
  else:
    noise_shape = random_fields.official_noise_shape(spatial_shape)
    make_field = random_fields.official_field
  # Drawn flat: XLA's CPU compiler takes seconds over a random array of several
  # axes.
  uniform = more_numbers(key, shape, count, count * math.prod(noise_shape))
  # Normal numbers: the centre of each of the 2^24 intervals, never infinite.
  noise = math.sqrt(2) * jax.lax.erf_inv(2 * uniform - (1 - 2**-24))
  return make_field(
    noise.reshape(*noise_shape, count), spatial_shape, decay_power
  )


def fmix(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
  where: ArrayLike | None = None,
  alpha: Any = 1.0,
  spectrum: str = 'isotropic',
  decay_power: float = 3.0,
  max_soft: float = 0.0,
  pairing: str = 'permutation',
  spatial_axes: tuple[int, ...] | None = None,
  granularity: str = 'batch',
  partner_images: ArrayLike | None = None,
  partner_labels: ArrayLike | None = None,
  lengths: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
  """FMix: smooth regions of each image are replaced by those of its partner.

  Args:
    key: random key.
    images: `[B, *spatial, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    label_smoothing: see `jaxmix.random_mix`.
    where: see `jaxmix.random_mix`.
    alpha: see `jaxmix.draw_cutmix`.
    pairing: see `jaxmix.draw_cutmix`.
    spatial_axes: see `jaxmix.draw_cutmix`.
    granularity: see `jaxmix.draw_cutmix`.
    spectrum: see `jaxmix.draw_fmix`.
    decay_power: see `jaxmix.draw_fmix`.
    max_soft: see `jaxmix.draw_fmix`.
    partner_images: see `jaxmix.random_mix`.
    partner_labels: see `jaxmix.random_mix`.
    lengths: see `jaxmix.random_mix`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.array([0, 1, 2, 0])
  >>> mix = jax.jit(fmix, static_argnames='num_classes')
  >>> _, mixed = mix(jax.random.key(0), images, labels, num_classes=3)
  >>> bool(jnp.allclose(mixed.sum(1), 1))
  True
  """
  mix = draw_fmix(
    key,
    jnp.shape(images),
    alpha=alpha,
    spectrum=spectrum,
    decay_power=decay_power,
    max_soft=max_soft,
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
