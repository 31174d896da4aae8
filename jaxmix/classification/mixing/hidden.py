"""What the kinds that mix a state of the network have in common."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

import jaxmix
from jaxmix.classification.losses import Pairs
from jaxmix.classification.mixing.context import (
  MixContext,
  Mixed,
  Mixing,
  Network,
  check,
)
from jaxmix.classification.rules import several, whole

LAYERS = several(whole(0, 99), 'numbers of different states, 0 is the input')


def shapes(layers: Any, place: MixContext) -> dict[int, tuple[int, ...]]:
  """The shapes `(H, W, C)` of the states that `config.mix.layers` names.

  Raises:
    ValueError: they are not one or more different states of the network.
  """
  found = dict(enumerate(place.states()))
  different = len(set(layers)) == len(layers) > 0
  if not different or not set(layers) <= found.keys():
    raise ValueError(
      f'config.mix.layers={layers!r} must be one or more {LAYERS.allowed}; the '
      f'network has 0 to {len(found) - 1}'
    )
  return {number: found[number] for number in layers}


def make_mixing(
  draw: Callable[[jax.Array, int], jaxmix.HiddenMix],
  place: MixContext,
  factor: Callable[[jaxmix.HiddenMix], jax.Array] | None = None,
) -> Mixing:
  """Makes the mixing of a draw for a shard's rows, which all shards share.

  Args:
    draw: of a key and the number of rows.
    place: where it is made for.
    factor: what multiplies the loss of a batch with this draw; None: nothing.

  Raises:
    ValueError: what `draw` refuses, naming config.mix.
  """
  check(lambda key: draw(key, place.rows))
  same, rows = PartitionSpec(), PartitionSpec('data')

  def mix(
    key: jax.Array,
    shards: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    network: Network,
  ) -> Mixed:
    del shards, network  # all shards are mixed alike, whatever it says
    drawn = draw(key, len(images) // place.shards)

    def pairs(drawn: jaxmix.HiddenMix, labels: jax.Array) -> Pairs:
      del labels  # which say what the rows are
      return Pairs(drawn.lam, drawn.partner)

    def hidden(k: int, states: jax.Array) -> jax.Array:
      if k not in drawn.weights:
        return states

      def apply(drawn: jaxmix.HiddenMix, states: jax.Array) -> jax.Array:
        return jaxmix.apply_hidden(drawn, k, states)

      return place.by_shards(apply, same, rows)(drawn, states)

    return Mixed(
      place.postprocess(images.astype(jnp.float32)),
      place.by_shards(pairs, same, rows)(drawn, labels),
      hidden,
      None if factor is None else factor(drawn),
    )

  return mix
