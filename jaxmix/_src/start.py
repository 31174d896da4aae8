"""Setup shared by all draws: argument checks, partners and random numbers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.checks import (
  GRANULARITIES,
  check_choice,
  check_key,
  check_shape,
)
from jaxmix._src.pairing import find_partner


class Start(NamedTuple):
  """The checked inputs of a draw, its partners and its random numbers.

  The numbers are uniform in [0, 1).

  Attributes:
    batch: number of samples `B`.
    spatial_shape: the lengths of the `d` spatial axes.
    count: number of independent draws n: `B`, or 1 for the whole batch.
    partner: int32 `[B]`.
    choice: float32 `[n]`, for the choice of a mode.
    coin: float32 `[n]`, for a choice of two.
    ratio: float32 `[2, n]`, for `ratio_of`.
    position: float32 `[B, d]`, for `pixel_of`; with one draw for the batch, a
      mode may use the first.
  """

  batch: int
  spatial_shape: tuple[int, ...]
  count: int
  partner: jax.Array
  choice: jax.Array
  coin: jax.Array
  ratio: jax.Array
  position: jax.Array


def start_draw(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  pairing: str,
  granularity: str,
  partner: ArrayLike | None,
) -> Start:
  """Checks the arguments that all draws share, and draws their numbers.

  All modes draw the same numbers in one call: on an accelerator each call is a
  kernel, which costs more than numbers that a mode does not use. So RandomMix
  with one candidate equals that mode bit for bit.

  Args:
    key: random key.
    shape: `[B, *spatial, C]`.
    pairing: see `jaxmix.draw_partner`.
    granularity: `'batch'` or `'sample'`.
    partner: int `[B]`, used in place of the partners that `pairing` gives.

  Raises:
    ValueError, TypeError: an argument has the wrong type or is unknown.
  """
  check_key(key)
  check_choice('granularity', granularity, GRANULARITIES)
  batch, spatial_shape = check_shape(shape)
  count = batch if granularity == 'sample' else 1
  bits = jax.random.bits(key, (_first(shape, count),), jnp.uint32)
  uniform = to_uniform(bits[batch:])
  return Start(
    batch,
    spatial_shape,
    count,
    find_partner(bits[:batch], pairing=pairing, partner=partner),
    choice=uniform[:count],
    coin=uniform[count : 2 * count],
    ratio=uniform[2 * count : 4 * count].reshape(2, count),
    position=uniform[4 * count :].reshape(batch, len(spatial_shape)),
  )


def more_numbers(
  key: jax.Array, shape: tuple[int, ...], count: int, size: int
) -> jax.Array:
  """Draws further numbers for `count` draws, uniform: float32 `[size]`.

  They follow those of `start_draw` in the sequence of the key. Another key
  would be a kernel of its own.
  """
  first = _first(shape, count)
  return to_uniform(jax.random.bits(key, (first + size,), jnp.uint32)[first:])


def _first(shape: tuple[int, ...], count: int) -> int:
  """Returns how many numbers `start_draw` draws."""
  batch, spatial_shape = check_shape(shape)
  return batch * (1 + len(spatial_shape)) + 4 * count


def to_uniform(bits: jax.Array) -> jax.Array:
  """Returns multiples of 2^-24 in [0, 1) for uint32 bits.

  >>> to_uniform(jnp.array([0, 2**31], jnp.uint32)).tolist()
  [0.0, 0.5]
  """
  # By way of int32, which CPUs convert at once.
  whole = (bits >> 8).astype(jnp.int32).astype(jnp.float32)
  return whole * jnp.float32(2**-24)
