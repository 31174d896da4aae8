"""Manifold Mixup: the options of `draw_manifold_mixup`."""

import functools
from typing import Any

import jaxmix
from jaxmix.classification.mixing import hidden
from jaxmix.classification.mixing.context import MixContext, Mixing
from jaxmix.classification.rules import TEXT, number

RULES = {
  'alpha': number(1e-6, 1e6, 'a number above 0 (from 1e-6 to 1e6)'),
  'layers': hidden.LAYERS,
  'pairing': TEXT,
}


def make(options: dict[str, Any], place: MixContext) -> Mixing:
  """Makes the mixing of `config.mix`.

  The state, lambda and the pairs are the same in every shard.

  Raises:
    ValueError: what `jaxmix.draw_manifold_mixup` refuses, naming config.mix.
  """
  hidden.shapes(options['layers'], place)
  draw = functools.partial(jaxmix.draw_manifold_mixup, **options)
  return hidden.make_mixing(draw, place)
