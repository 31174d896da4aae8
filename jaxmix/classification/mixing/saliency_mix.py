"""SaliencyMix, by the spectral residual of the images as they are mixed."""

from typing import Any

import jax

import jaxmix
from jaxmix.classification.losses import Pairs
from jaxmix.classification.mixing.context import (
  MixContext,
  Mixed,
  Mixing,
  Network,
)
from jaxmix.classification.rules import TEXT, number

RULES = {
  'alpha': number(1e-6, 1e6, 'a number above 0 (from 1e-6 to 1e6)'),
  'pairing': TEXT,
  'granularity': TEXT,
}


def make(options: dict[str, Any], place: MixContext) -> Mixing:
  """Makes the mixing of `config.mix`.

  The key is the same in every shard, so one ratio holds for the whole batch;
  with granularity 'sample' every shard has its own.

  Raises:
    ValueError: what `jaxmix.draw_saliency_mix` refuses, naming config.mix.
  """

  def mix_images(key: jax.Array, images: jax.Array) -> Any:
    saliency = jaxmix.spectral_residual(images)
    mix = jaxmix.draw_saliency_mix(key, saliency, **options)
    mixed = jaxmix.apply(mix, images, postprocess=place.postprocess)
    return mixed, mix.lam, mix.partner

  mix_parts = place.by_key(
    mix_images,
    'images',
    anew=options['granularity'] == 'sample',
  )

  def mix(
    key: jax.Array,
    shards: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    network: Network,
  ) -> Mixed:
    del labels, network  # the pixels say all
    mixed, lam, partner = mix_parts(key, shards, images)
    return Mixed(mixed, Pairs(lam, partner))

  return mix
