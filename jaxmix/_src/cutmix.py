"""CutMix: Yun et al., ICCV 2019 (RandomMix, equation (2))."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.batch import mix_batch, second_batch
from jaxmix._src.boxes import (
  cut_box,
  fraction_outside,
  pixel_of,
  share_box,
)
from jaxmix._src.checks import check_number
from jaxmix._src.mix import Mix
from jaxmix._src.ratio import last_number, nan_if_invalid, ratio_of
from jaxmix._src.settings import in_any_setting
from jaxmix._src.spatial_axes import named_shape, spread
from jaxmix._src.start import start_draw


@in_any_setting
def draw_cutmix(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  alpha: Any = 1.0,
  min_share: float = 0.0,
  max_share: float = 1.0,
  pairing: str = 'permutation',
  spatial_axes: tuple[int, ...] | None = None,
  granularity: str = 'batch',
  partner: ArrayLike | None = None,
) -> Mix:
  """Draws a CutMix: a box of the partner, pasted at the same position.

  The official distribution: the ratio is drawn from Beta(alpha, alpha), the
  centre is uniform over all pixels, and the box is clipped at the border. `lam`
  is the fraction of pixels outside the clipped box, so labels and pixels agree
  exactly.

  With bounds of the partner's share the box lies inside the image, at a uniform
  position. The share is `max_share - (max_share - min_share) * ratio`, rounded
  to whole pixels; the sides have the proportions of the image.

  Args:
    key: random key.
    shape: `[B, *spatial, C]`, the shape of the images.
    alpha: parameter of Beta(alpha, alpha), above 0; 1 is the uniform
      distribution. A traced value that is not above 0 gives `lam` NaN.
    min_share: lower bound of the partner's share `1 - lam`, a Python number
      from 0 to `max_share`. It is a fraction of the pixels: a box with half the
      sides of an image has a share of 1/4.
    max_share: upper bound, up to 1. If no box has a share within the bounds,
      which are then less than 1 / the shortest side apart, the nearest is
      taken; it is off by at most half of that.
    pairing: how partners are chosen, see `jaxmix.draw_partner`.
    spatial_axes: the axes of the images that boxes and masks vary over; along
      the others they are the same. For videos `[B, T, H, W, C]`, `(2, 3)` puts
      the same box into every frame and `(1,)` replaces whole frames. None: all
      axes between the batch and the channels.
    granularity: `'batch'`: one draw for the whole batch (the official code).
      `'sample'`: an independent draw for each sample.
    partner: int `[B]`, the partners to use in place of those that `pairing`
      draws. None: drawn.

  Returns:
    A `Mix` with `box`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> draw_cutmix(jax.random.key(0), (4, 32, 32, 3)).box.shape
  (4, 2, 2)
  """
  check_number('max_share', max_share, 0, 1)
  check_number('min_share', min_share, 0, max_share)
  inner = named_shape(shape, spatial_axes)
  start = start_draw(
    key,
    inner,
    pairing=pairing,
    granularity=granularity,
    partner=partner,
    last=last_number(alpha, 'position'),
  )
  spatial_shape, count = start.spatial_shape, start.count
  # The numbers of one draw are repeated first, and not the box: a box for each
  # sample is what all modes have in common.
  number = jnp.broadcast_to(start.ratio, (start.batch,))
  angle = jnp.broadcast_to(start.angle, (start.batch,))
  position = jnp.broadcast_to(start.position[:count], start.position.shape)
  ratio = ratio_of(number, angle, alpha)
  if (min_share, max_share) == (0, 1):
    box = cut_box(ratio, pixel_of(position, spatial_shape), spatial_shape)
  else:
    box = share_box(
      ratio,
      position,
      spatial_shape,
      min_share=float(min_share),
      max_share=float(max_share),
    )
  lam = nan_if_invalid(fraction_outside(box, spatial_shape), alpha)
  mix = Mix(lam=lam, partner=start.partner, box=box)
  return spread(mix, shape, spatial_axes)


def cutmix(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
  where: ArrayLike | None = None,
  alpha: Any = 1.0,
  min_share: float = 0.0,
  max_share: float = 1.0,
  pairing: str = 'permutation',
  spatial_axes: tuple[int, ...] | None = None,
  granularity: str = 'batch',
  partner_images: ArrayLike | None = None,
  partner_labels: ArrayLike | None = None,
  lengths: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
  """CutMix: a box of each image is replaced by the same box of its partner.

  Args:
    key: random key.
    images: `[B, *spatial, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    label_smoothing: see `jaxmix.random_mix`.
    where: see `jaxmix.random_mix`.
    alpha: see `jaxmix.draw_cutmix`.
    min_share: see `jaxmix.draw_cutmix`.
    max_share: see `jaxmix.draw_cutmix`.
    pairing: see `jaxmix.draw_cutmix`.
    spatial_axes: see `jaxmix.draw_cutmix`.
    granularity: see `jaxmix.draw_cutmix`.
    partner_images: see `jaxmix.random_mix`.
    partner_labels: see `jaxmix.random_mix`.
    lengths: see `jaxmix.random_mix`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.array([0, 1, 2, 0])
  >>> mix = jax.jit(cutmix, static_argnames='num_classes')
  >>> _, mixed = mix(jax.random.key(0), images, labels, num_classes=3)
  >>> bool(jnp.allclose(mixed.sum(1), 1))
  True
  """
  mix = draw_cutmix(
    key,
    jnp.shape(images),
    alpha=alpha,
    min_share=min_share,
    max_share=max_share,
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
