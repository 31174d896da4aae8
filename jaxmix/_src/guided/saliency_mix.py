"""SaliencyMix: Uddin et al., ICLR 2021."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.boxes import share_outside
from jaxmix._src.checks import check_images, check_saliency
from jaxmix._src.cutmix import cut_box
from jaxmix._src.guided.saliency import spectral_residual
from jaxmix._src.labels import mix_labels
from jaxmix._src.mix import Mix, apply
from jaxmix._src.ratio import draw_ratio
from jaxmix._src.start import start_draw


def draw_saliency_mix(
  key: jax.Array,
  saliency: ArrayLike,
  *,
  alpha: Any = 1.0,
  pairing: str = 'permutation',
  granularity: str = 'batch',
) -> Mix:
  """Draws a SaliencyMix: CutMix where the partner is worth looking at.

  The ratio is from Beta(alpha, alpha), the box that of CutMix, centred at the
  most salient pixel of the partner (the first of several) and clipped at the
  border; it is pasted at the same place. `lam` is the share of the pixels
  outside the clipped box. (The official code centres all boxes of a batch at
  the peak of one of the partners.)

  Args:
    key: random key.
    saliency: `[B, *spatial]`, of each image before the mixing, for example by
      `jaxmix.spectral_residual`.
    alpha: above 0; 1 makes the ratio uniform.
    pairing: see `jaxmix.draw_partner`.
    granularity: `'batch'`, one ratio for all (the official law), or `'sample'`,
      one for each. The centres are each sample's own.

  Returns:
    A `Mix` with `box`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> saliency = jnp.zeros((2, 8, 8)).at[:, 6, 1].set(1)
  >>> mix = draw_saliency_mix(jax.random.key(3), saliency)
  >>> inside = (mix.box[0, :, 0] <= 6) & (mix.box[0, :, 1] > 1)
  >>> bool(inside.all())
  True
  """
  saliency = check_saliency(saliency)
  batch, space, count, partner, key = start_draw(
    key, (*saliency.shape, 1), pairing=pairing, granularity=granularity
  )
  # Two keys as in CutMix, so that one key gives both the same ratio.
  ratio_key, _ = jax.random.split(key)
  ratio = draw_ratio(ratio_key, count, alpha)
  peak = jnp.argmax(saliency.reshape(batch, -1), axis=1)
  centre = jnp.stack(jnp.unravel_index(peak, space), axis=1).astype(jnp.int32)
  box = cut_box(ratio, centre[partner], space)
  return Mix(
    # NaN, where alpha is traced and out of range, must not become a box.
    lam=share_outside(box, space) + 0 * ratio,
    partner=partner,
    mode=jnp.zeros(batch, jnp.int32),
    box=box,
  )


def saliency_mix(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
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
    num_classes: `K`, for integer labels.
    saliency: `[B, *spatial]`; None: `jaxmix.spectral_residual`.
    alpha: above 0; 1 makes the ratio uniform.
    pairing: see `jaxmix.draw_partner`.
    granularity: `'batch'` (one ratio for all) or `'sample'`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.array([0, 1, 2, 0])
  >>> _, mixed = saliency_mix(
  ...   jax.random.key(0), images, labels, num_classes=3
  ... )
  >>> bool(jnp.allclose(mixed.sum(1), 1))
  True
  """
  images = check_images(images)
  if saliency is None:
    saliency = spectral_residual(images)
  saliency = check_saliency(saliency, images.shape)
  mix = draw_saliency_mix(
    key, saliency, alpha=alpha, pairing=pairing, granularity=granularity
  )
  return apply(mix, images), mix_labels(mix, labels, num_classes=num_classes)
