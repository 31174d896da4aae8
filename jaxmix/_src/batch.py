"""The common part of the functions that mix a batch in one call."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.labels import mix_labels
from jaxmix._src.lengths import with_lengths
from jaxmix._src.mix import Mix, apply


def second_batch(images: Any, partner_images: Any) -> jax.Array | None:
  """Returns the partners for a draw: sample `i` of a second batch, if given."""
  if partner_images is None:
    return None
  return jnp.arange(jnp.shape(images)[0], dtype=jnp.int32)


def mix_batch(
  mix: Mix,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None,
  label_smoothing: float,
  where: ArrayLike | None,
  lengths: ArrayLike | None = None,
  partner_images: ArrayLike | None = None,
  partner_labels: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Applies a draw to images and labels; see `jaxmix.random_mix`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type, or is
      given without the one that it needs.
  """
  if (partner_images is None) != (partner_labels is None):
    missing = 'images' if partner_images is None else 'labels'
    raise ValueError(
      f'partner_{missing}=None: a second batch needs partner_images and '
      'partner_labels.'
    )
  mixed = apply(mix, images, partner_images=partner_images)
  if lengths is not None:
    if partner_images is not None:
      raise ValueError(
        'lengths are those of images; they cannot be given with '
        'partner_images, a second batch.'
      )
    mix = dataclasses.replace(mix, spatial_shape=jnp.shape(images)[1:-1])
    mix = with_lengths(mix, lengths)
  return mixed, mix_labels(
    mix,
    labels,
    num_classes=num_classes,
    label_smoothing=label_smoothing,
    where=where,
    partner_labels=partner_labels,
  )
