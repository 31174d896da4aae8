"""PatchUp, hard and soft: the options of `draw_patchup`."""

from typing import Any

import jax
import jax.numpy as jnp

import jaxmix
from jaxmix.classification.mixing import hidden
from jaxmix.classification.mixing.context import MixContext, Mixing
from jaxmix.classification.rules import SWITCH, TEXT, number, whole

RULES = {
  'hard': SWITCH,
  'probability': number(0, 1, 'a number from 0 to 1'),
  'gamma': number(0, 1, 'a number from 0 to 1'),
  'block_size': whole(1, 2**10),
  'alpha': number(1e-6, 1e6, 'a number above 0 (from 1e-6 to 1e6)'),
  'layers': hidden.LAYERS,
  'pairing': TEXT,
}


def make(options: dict[str, Any], place: MixContext) -> Mixing:
  """Makes the mixing of `config.mix`.

  The state, its blocks, lambda and the pairs are the same in every shard. The
  loss of a mixed batch is the paper's sum of two cross
  entropies, which are the same: it is twice one of them.

  Raises:
    ValueError: what `jaxmix.draw_patchup` refuses, naming config.mix.
  """
  layers = options.pop('layers')
  states = hidden.shapes(layers, place)

  def draw(key: jax.Array, rows: int) -> jaxmix.HiddenMix:
    shapes = {number: (rows, *shape) for number, shape in states.items()}
    return jaxmix.draw_patchup(key, shapes, **options)

  def factor(drawn: jaxmix.HiddenMix) -> jax.Array:
    return jnp.where(drawn.layer < 0, 1.0, 2.0)

  return hidden.make_mixing(draw, place, factor)
