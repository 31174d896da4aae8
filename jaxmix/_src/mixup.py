"""Mixup: Zhang et al., ICLR 2018 (RandomMix, equation (1))."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.batch import mix_batch, second_batch
from jaxmix._src.mix import Mix
from jaxmix._src.ratio import last_number, ratio_of
from jaxmix._src.settings import in_any_setting
from jaxmix._src.start import start_draw


@in_any_setting
def draw_mixup(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  alpha: Any = 1.0,
  pairing: str = 'permutation',
  granularity: str = 'batch',
  partner: ArrayLike | None = None,
) -> Mix:
  """Draws a Mixup: lambda ~ Beta(alpha, alpha), the weight of every pixel.

  Args:
    key: random key.
    shape: `[B, *spatial, C]`, the shape of the images.
    alpha: see `jaxmix.draw_cutmix`.
    pairing: see `jaxmix.draw_cutmix`.
    granularity: see `jaxmix.draw_cutmix`.
    partner: see `jaxmix.draw_cutmix`.

  Returns:
    A `Mix` with `mask`: one weight per draw.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> draw_mixup(jax.random.key(0), (4, 8, 8, 3)).mask.shape
  (1, 1, 1)
  """
  start = start_draw(
    key,
    shape,
    pairing=pairing,
    granularity=granularity,
    partner=partner,
    last=last_number(alpha, 'ratio'),
  )
  lam = ratio_of(start.ratio, start.angle, alpha)
  return Mix(
    lam=jnp.broadcast_to(lam, (start.batch,)),
    partner=start.partner,
    mask=lam.reshape([start.count] + [1] * len(start.spatial_shape)),
  )


def mixup(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
  where: ArrayLike | None = None,
  alpha: Any = 1.0,
  pairing: str = 'permutation',
  granularity: str = 'batch',
  partner_images: ArrayLike | None = None,
  partner_labels: ArrayLike | None = None,
  lengths: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Mixup: `lambda * own + (1 - lambda) * partner`, for images and labels.

  Args:
    key: random key.
    images: `[B, *spatial, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    label_smoothing: see `jaxmix.random_mix`.
    where: see `jaxmix.random_mix`.
    alpha: see `jaxmix.draw_cutmix`.
    pairing: see `jaxmix.draw_cutmix`.
    granularity: see `jaxmix.draw_cutmix`.
    partner_images: see `jaxmix.random_mix`.
    partner_labels: see `jaxmix.random_mix`.
    lengths: see `jaxmix.random_mix`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.array([0, 1, 2, 0])
  >>> mix = jax.jit(mixup, static_argnames='num_classes')
  >>> _, mixed = mix(jax.random.key(0), images, labels, num_classes=3)
  >>> bool(jnp.allclose(mixed.sum(1), 1))
  True
  """
  mix = draw_mixup(
    key,
    jnp.shape(images),
    alpha=alpha,
    pairing=pairing,
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
