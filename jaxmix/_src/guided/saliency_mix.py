"""SaliencyMix: Uddin et al., ICLR 2021."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.batch import mix_batch
from jaxmix._src.boxes import cut_box, fraction_outside
from jaxmix._src.checks import check_images, check_layout, check_saliency
from jaxmix._src.guided.saliency import spectral_residual, zero_if_undefined
from jaxmix._src.mix import Mix
from jaxmix._src.ratio import last_number, nan_if_invalid, ratio_of
from jaxmix._src.settings import in_any_setting
from jaxmix._src.start import start_draw


@in_any_setting
def draw_saliency_mix(
  key: jax.Array,
  saliency: ArrayLike,
  *,
  alpha: Any = 1.0,
  pairing: str = 'permutation',
  granularity: str = 'batch',
  partner: ArrayLike | None = None,
) -> Mix:
  """Draws a SaliencyMix: CutMix at the most salient pixel of the partner.

  The ratio is drawn from Beta(alpha, alpha). The box is that of CutMix, centred
  at the most salient pixel of the partner (the first of several), clipped at
  the border and pasted at the same position. `lam` is the fraction of pixels
  outside the clipped box. (The official code centres all boxes of a batch at
  the peak of one of the partners.)

  Args:
    key: random key.
    saliency: `[B, *spatial]`, the saliency of each image before mixing, for
      example from `jaxmix.spectral_residual`. A map that is not finite counts
      as constant.
    alpha: see `jaxmix.draw_cutmix`.
    pairing: see `jaxmix.draw_cutmix`.
    granularity: `'batch'`: one ratio for the whole batch (the official code).
      `'sample'`: a ratio for each sample. The centres always differ by sample.
    partner: see `jaxmix.draw_cutmix`.

  Returns:
    A `Mix` with `box`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> saliency = jnp.zeros((2, 8, 8)).at[:, 6, 1].set(1)
  >>> mix = jax.jit(draw_saliency_mix)(jax.random.key(3), saliency)
  >>> inside = (mix.box[0, :, 0] <= 6) & (mix.box[0, :, 1] > 1)
  >>> bool(inside.all())
  True
  """
  saliency = zero_if_undefined(check_saliency(saliency))
  start = start_draw(
    key,
    (*saliency.shape, 1),
    pairing=pairing,
    granularity=granularity,
    partner=partner,
    last=last_number(alpha, 'ratio'),
  )
  spatial_shape = start.spatial_shape
  ratio = ratio_of(start.ratio, start.angle, alpha)
  peak = jnp.argmax(saliency.reshape(start.batch, -1), axis=1)
  centre = jnp.stack(jnp.unravel_index(peak, spatial_shape), axis=1).astype(
    jnp.int32
  )
  box = cut_box(ratio, centre[start.partner], spatial_shape)
  lam = nan_if_invalid(fraction_outside(box, spatial_shape), alpha)
  return Mix(
    lam=lam, partner=start.partner, box=box, spatial_shape=spatial_shape
  )


def saliency_mix(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
  where: ArrayLike | None = None,
  saliency: ArrayLike | None = None,
  alpha: Any = 1.0,
  pairing: str = 'permutation',
  granularity: str = 'batch',
) -> tuple[jax.Array, jax.Array]:
  """SaliencyMix: a box around the peak of the partner's saliency is pasted.

  Args:
    key: random key.
    images: `[B, *spatial, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    label_smoothing: see `jaxmix.random_mix`.
    where: see `jaxmix.random_mix`.
    saliency: `[B, *spatial]`; None: `jaxmix.spectral_residual` of the images.
    alpha: see `jaxmix.draw_saliency_mix`.
    pairing: see `jaxmix.draw_saliency_mix`.
    granularity: see `jaxmix.draw_saliency_mix`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.array([0, 1, 2, 0])
  >>> mix = jax.jit(saliency_mix, static_argnames='num_classes')
  >>> _, mixed = mix(jax.random.key(0), images, labels, num_classes=3)
  >>> bool(jnp.allclose(mixed.sum(1), 1))
  True
  """
  images = check_images(images)
  check_layout(images.shape)
  if saliency is None:
    saliency = spectral_residual(images)
  saliency = check_saliency(saliency, images.shape)
  mix = draw_saliency_mix(
    key, saliency, alpha=alpha, pairing=pairing, granularity=granularity
  )
  return mix_batch(
    mix,
    images,
    labels,
    num_classes=num_classes,
    label_smoothing=label_smoothing,
    where=where,
  )
