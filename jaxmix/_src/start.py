"""Setup shared by all draws: argument checks, random keys and pairing."""

from typing import NamedTuple

import jax
from jax.typing import ArrayLike

from jaxmix._src.checks import (
  GRANULARITIES,
  check_choice,
  check_key,
  check_shape,
)
from jaxmix._src.pairing import find_partner


class Start(NamedTuple):
  """The checked inputs of a draw.

  Attributes:
    batch: number of samples `B`.
    spatial_shape: the lengths of the spatial axes.
    count: number of independent draws: `B`, or 1 for the whole batch.
    partner: int32 `[B]`.
    key: random key for the numbers of the mode.
  """

  batch: int
  spatial_shape: tuple[int, ...]
  count: int
  partner: jax.Array
  key: jax.Array


def split_key(key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Returns keys for the pairing, for the choice of a mode and for the mode.

  A single mode does not use the second key. It is split off nevertheless, so
  that RandomMix with one candidate equals that mode bit for bit.
  """
  pair_key, choice_key, mode_key = jax.random.split(key, 3)
  return pair_key, choice_key, mode_key


def start_draw(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  pairing: str,
  granularity: str,
  partner: ArrayLike | None,
) -> Start:
  """Checks the arguments that all draws share, and draws the partners.

  `partner` replaces the partners that `pairing` would draw.

  Raises:
    ValueError, TypeError: an argument has the wrong type or is unknown.
  """
  check_key(key)
  check_choice('granularity', granularity, GRANULARITIES)
  batch, spatial_shape = check_shape(shape)
  pair_key, _, mode_key = split_key(key)
  return Start(
    batch,
    spatial_shape,
    batch if granularity == 'sample' else 1,
    find_partner(pair_key, batch, pairing=pairing, partner=partner),
    mode_key,
  )
