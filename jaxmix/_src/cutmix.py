"""CutMix: Yun et al., ICCV 2019 (RandomMix, equation (2))."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.boxes import draw_pixel, share_outside
from jaxmix._src.labels import mix_labels
from jaxmix._src.mix import Mix, apply
from jaxmix._src.ratio import draw_ratio
from jaxmix._src.start import start_draw


def cut_box(
  ratio: jax.Array, centre: jax.Array, space: tuple[int, ...]
) -> jax.Array:
  """The box that holds a share `1 - ratio` of the image, before it is clipped.

  The side of an axis of length L is `L * (1 - ratio)^(1/d)`, so that the volume
  is right for any number `d` of axes (for images, the official square root),
  cut down to an even whole number; then the box is clipped at the border.

  Args:
    ratio: float32 `[n]`, the share of the image to keep.
    centre: int32 `[n, d]`.
    space: the `d` lengths of the image.

  Returns:
    int32 `[n, d, 2]`.

  >>> cut_box(jnp.array([0.75]), jnp.array([[0, 16]]), (32, 32)).tolist()
  [[[0, 8], [8, 24]]]
  """
  length = jnp.asarray(space, jnp.int32)
  side = _root(1 - ratio, len(space))[:, None] * length
  half = side.astype(jnp.int32) // 2
  return jnp.stack(
    [
      jnp.clip(centre - half, 0, length),
      jnp.clip(centre + half, 0, length),
    ],
    axis=-1,
  )


def _root(value: jax.Array, degree: int) -> jax.Array:
  # sqrt is correctly rounded; a power of one half is not.
  if degree == 2:
    return jnp.sqrt(value)
  return value if degree == 1 else value ** (1 / degree)


def draw_cutmix(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  alpha: Any = 1.0,
  pairing: str = 'permutation',
  granularity: str = 'batch',
) -> Mix:
  """Draws a CutMix: a box of the partner at the same place.

  The official law: the ratio from Beta(alpha, alpha), a centre uniform over
  all pixels, the box clipped at the border; `lam` is the share of the pixels
  outside the clipped box, so label and pixels agree exactly.

  Args:
    key: random key.
    shape: `[B, *spatial, C]`, the shape of the images.
    alpha: above 0; 1 makes the ratio uniform.
    pairing: see `jaxmix.draw_partner`.
    granularity: `'batch'`, one box for all (the official law), or `'sample'`,
      one for each.

  Returns:
    A `Mix` with `box`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> draw_cutmix(jax.random.key(0), (4, 32, 32, 3)).box.shape
  (4, 2, 2)
  """
  batch, space, count, partner, key = start_draw(
    key, shape, pairing=pairing, granularity=granularity
  )
  ratio_key, centre_key = jax.random.split(key)
  ratio = draw_ratio(ratio_key, count, alpha)
  centre = draw_pixel(centre_key, count, space)
  box = cut_box(ratio, centre, space)
  box = jnp.broadcast_to(box, (batch, len(space), 2))
  return Mix(
    # NaN, where alpha is traced and out of range, must not become a box.
    lam=share_outside(box, space) + 0 * ratio,
    partner=partner,
    mode=jnp.zeros(batch, jnp.int32),
    box=box,
  )


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
    num_classes: `K`, for integer labels.
    alpha: above 0; 1 makes the ratio uniform.
    pairing: see `jaxmix.draw_partner`.
    granularity: `'batch'` (one box for all) or `'sample'`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.array([0, 1, 2, 0])
  >>> _, mixed = cutmix(jax.random.key(0), images, labels, num_classes=3)
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
