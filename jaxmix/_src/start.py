"""How every draw begins, so that all of them share one pairing."""

from typing import NamedTuple

import jax

from jaxmix._src.checks import (
  GRANULARITIES,
  check_choice,
  check_key,
  check_shape,
)
from jaxmix._src.pairing import draw_partner


class Start(NamedTuple):
  """What a draw goes on from.

  Attributes:
    batch: number of samples `B`.
    space: the lengths of the spatial axes.
    count: how many times the mode draws: `B`, or 1 for the whole batch.
    partner: int32 `[B]`.
    key: for the mode's own numbers.
  """

  batch: int
  space: tuple[int, ...]
  count: int
  partner: jax.Array
  key: jax.Array


def split_key(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Keys for the pairing, for the choice of a mode and for the mode itself.

  A lone mode does not use the second; it is split off all the same, so that
  RandomMix with one candidate is that mode bit for bit.
  """
  pair_key, choice_key, mode_key = jax.random.split(key, 3)
  return pair_key, choice_key, mode_key


def start_draw(
  key: jax.Array, shape: tuple[int, ...], *, pairing: str, granularity: str
) -> Start:
  """Checks what all draws take, and draws the partners.

  Raises:
    ValueError, TypeError: an argument is of a wrong type or unknown.
  """
  check_key(key)
  check_choice('granularity', granularity, GRANULARITIES)
  batch, space = check_shape(shape)
  pair_key, _, mode_key = split_key(key)
  return Start(
    batch,
    space,
    batch if granularity == 'sample' else 1,
    draw_partner(pair_key, batch, pairing=pairing),
    mode_key,
  )
