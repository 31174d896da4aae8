"""SaliencyMix, by the spectral residual of the images as they are mixed."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

import jaxmix
from jaxmix.classification.losses import Pairs
from jaxmix.classification.mixing.kind import Mixed, Mixing, Network, Place
from jaxmix.classification.rules import TEXT, number

RULES = {
  'alpha': number(1e-6, 1e6, 'a number above 0 (from 1e-6 to 1e6)'),
  'pairing': TEXT,
  'granularity': TEXT,
}


def make(options: dict[str, Any], place: Place) -> Mixing:
  """Makes the mixing of `config.mix`.

  The key is the same on every device, so one ratio holds for the whole batch;
  with granularity 'sample' every device has its own.

  Raises:
    ValueError: what `jaxmix.draw_saliency_mix` refuses, naming config.mix.
  """

  def mix_images(key: jax.Array, images: jax.Array) -> Any:
    saliency = jaxmix.spectral_residual(images)
    mix = jaxmix.draw_saliency_mix(key, saliency, **options)
    mixed = jaxmix.apply(mix, images, finish=place.finish)
    return mixed, mix.lam, mix.partner

  # What is wrong would be raised in the first step, without naming the config.
  try:
    images = jax.ShapeDtypeStruct((2, *place.image_shape), jnp.uint8)
    jax.eval_shape(mix_images, jax.random.key(0), images)
  except (TypeError, ValueError) as error:
    # Its messages begin with the argument, which is the field.
    raise ValueError(f'config.mix.{error}') from error

  def mix_part(key: jax.Array, images: jax.Array) -> Any:
    if options['granularity'] == 'sample':
      key = jax.random.fold_in(key, jax.lax.axis_index('data'))
    return mix_images(key, images)

  mix_parts = place.by_rows(mix_part, PartitionSpec(), PartitionSpec('data'))

  def mix(
    key: jax.Array, images: jax.Array, labels: jax.Array, network: Network
  ) -> Mixed:
    del labels, network  # the pixels say all
    mixed, lam, partner = mix_parts(key, images)
    return Mixed(mixed, Pairs(lam, partner))

  return mix
