"""Co-Mixup, by the gradient of the network that is trained."""

from typing import Any

import jax
import jax.numpy as jnp

import jaxmix
from jaxmix.classification.mixing.context import (
  MixContext,
  Mixed,
  Mixing,
  Network,
)
from jaxmix.classification.mixing.gradient import find_saliency
from jaxmix.classification.rules import number, whole

_COUNT = whole(1, 2**10)
_WEIGHT = number(0, 1e6, 'a number from 0 to 1e6')

RULES = {
  'group': whole(2, 2**10),
  'grid': whole(2, 2**10),
  'concentration': _COUNT,
  'border_cost': _WEIGHT,
  'diversity': _WEIGHT,
  'threshold': _WEIGHT,
  'input_prior': _WEIGHT,
  'sweeps': _COUNT,
}


def make(options: dict[str, Any], place: MixContext) -> Mixing:
  """Makes the mixing of `config.mix`.

  A step passes the network twice: the unmixed images tell what is salient.
  Groups are within a shard of the batch, and every shard draws anew.

  Raises:
    ValueError: what `jaxmix.draw_co_mixup` refuses, naming config.mix.
  """

  def mix_images(
    key: jax.Array, images: jax.Array, labels: jax.Array, saliency: jax.Array
  ) -> Any:
    owner = jaxmix.draw_co_mixup(key, saliency, **options)
    mixed = jaxmix.take_blocks(images, owner)
    targets = jaxmix.block_labels(labels, owner, num_classes=place.num_classes)
    return place.postprocess(mixed.astype(jnp.float32)), targets

  mix_parts = place.by_key(
    mix_images,
    'images',
    'labels',
    'saliency',
    anew=True,
  )

  def mix(
    key: jax.Array,
    shards: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    network: Network,
  ) -> Mixed:
    saliency = find_saliency(place, images, labels, network)
    return Mixed(*mix_parts(key, shards, images, labels, saliency))

  return mix
