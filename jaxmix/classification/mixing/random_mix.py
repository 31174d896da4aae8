"""RandomMix, and each of its modes alone: the options of `draw_random_mix`."""

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
from jaxmix.classification.rules import TEXT, Rule, number, several

_MODES = {'identity', 'mixup', 'cutmix', 'resizemix', 'fmix'}

RULES = {
  'candidates': Rule(
    lambda x: isinstance(x, tuple | list) and len(x) > 0 and set(x) <= _MODES,
    f'one or more of {", ".join(sorted(_MODES))}',
  ),
  'weights': several(
    number(0, 1e6, ''), 'finite numbers of 0 or more, one for each candidate'
  ),
  'alpha': number(1e-6, 1e6, 'a number above 0 (from 1e-6 to 1e6)'),
  'scale': several(number(0, 1, ''), 'two numbers from 0 to 1'),
  'method': TEXT,
  'spectrum': TEXT,
  'decay_power': number(0, 100, 'a number from 0 to 100'),
  'max_soft': number(0, 0.5, 'a number from 0 to 0.5'),
  'pairing': TEXT,
  'granularity': TEXT,
}


def make(options: dict[str, Any], place: MixContext) -> Mixing:
  """Makes the mixing of `config.mix`.

  Images come in as uint8 and go out finished: they are read and written once.
  The key is the same in every shard, so one mode and one lambda hold for the
  whole batch; with granularity 'sample' every shard has its own.

  Raises:
    ValueError: what `jaxmix.draw_random_mix` refuses, naming config.mix.
  """

  def mix_images(key: jax.Array, images: jax.Array) -> Any:
    mix = jaxmix.draw_random_mix(key, images.shape, **options)
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
    del labels, network  # the pixels' shares say all
    mixed, lam, partner = mix_parts(key, shards, images)
    return Mixed(mixed, Pairs(lam, partner))

  return mix
