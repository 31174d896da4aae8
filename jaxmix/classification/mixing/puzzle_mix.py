"""Puzzle Mix, by the gradient of the network that is trained."""

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
from jaxmix.classification.mixing.gradient import find_saliency
from jaxmix.classification.rules import TEXT, number, several, whole

_WEIGHT = number(0, 1e6, 'a number from 0 to 1e6')

RULES = {
  'alpha': number(1e-6, 1e6, 'a number above 0 (from 1e-6 to 1e6)'),
  'blocks': several(whole(2, 2**10), 'whole numbers of 2 or more'),
  'levels': whole(2, 3),
  'label_smoothness': _WEIGHT,
  'data_smoothness': number(0, 1, 'a number from 0 to 1'),
  'prior': _WEIGHT,
  'transport_cost': _WEIGHT,
  'pairing': TEXT,
  'granularity': TEXT,
}


def make(options: dict[str, Any], place: MixContext) -> Mixing:
  """Makes the mixing of `config.mix`.

  A step passes the network twice: the unmixed images tell what is salient. The
  key is the same in every shard, so one ratio and one size of blocks hold for
  the whole batch; with granularity 'sample' every shard has its own.

  Raises:
    ValueError: what `jaxmix.draw_puzzle_mix` refuses, naming config.mix.
  """

  def mix_images(key: jax.Array, images: jax.Array, saliency: jax.Array) -> Any:
    mix = jaxmix.draw_puzzle_mix(key, saliency, images, **options)
    mixed = jaxmix.apply(mix, images, postprocess=place.postprocess)
    return mixed, mix.lam, mix.partner

  mix_parts = place.by_key(
    mix_images,
    'images',
    'saliency',
    anew=options['granularity'] == 'sample',
  )

  def mix(
    key: jax.Array,
    shards: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    network: Network,
  ) -> Mixed:
    saliency = find_saliency(place, images, labels, network)
    mixed, lam, partner = mix_parts(key, shards, images, saliency)
    return Mixed(mixed, Pairs(lam, partner))

  return mix
