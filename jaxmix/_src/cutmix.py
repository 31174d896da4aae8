"""CutMix: Yun et al., ICCV 2019 (RandomMix, equation (2))."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.boxes import cut_box, draw_pixel, fraction_outside
from jaxmix._src.labels import mix_labels
from jaxmix._src.mix import Mix, apply
from jaxmix._src.ratio import draw_ratio, nan_if_invalid
from jaxmix._src.settings import in_any_setting
from jaxmix._src.spatial_axes import named_shape, spread
from jaxmix._src.start import start_draw


@in_any_setting
def draw_cutmix(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  alpha: Any = 1.0,
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

  Args:
    key: random key.
    shape: `[B, *spatial, C]`, the shape of the images.
    alpha: parameter of Beta(alpha, alpha), above 0; 1 is the uniform
      distribution. A traced value that is not above 0 gives `lam` NaN.
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
  inner = named_shape(shape, spatial_axes)
  batch, spatial_shape, count, partner, key = start_draw(
    key, inner, pairing=pairing, granularity=granularity, partner=partner
  )
  ratio_key, centre_key = jax.random.split(key)
  ratio = draw_ratio(ratio_key, count, alpha)
  centre = draw_pixel(centre_key, count, spatial_shape)
  box = cut_box(ratio, centre, spatial_shape)
  box = jnp.broadcast_to(box, (batch, len(spatial_shape), 2))
  lam = nan_if_invalid(fraction_outside(box, spatial_shape), alpha)
  mix = Mix(lam=lam, partner=partner, box=box)
  return spread(mix, shape, spatial_axes)


def cutmix(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  alpha: Any = 1.0,
  pairing: str = 'permutation',
  granularity: str = 'batch',
) -> tuple[jax.Array, jax.Array]:
  """CutMix: a box of each image is replaced by the same box of its partner.

  Args:
    key: random key.
    images: `[B, *spatial, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    alpha: see `jaxmix.draw_cutmix`.
    pairing: see `jaxmix.draw_cutmix`.
    granularity: see `jaxmix.draw_cutmix`.

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
    pairing=pairing,
    granularity=granularity,
  )
  return apply(mix, images), mix_labels(mix, labels, num_classes=num_classes)
