"""Setup shared by all draws: argument checks, partners and random numbers."""

import itertools
from typing import Any, NamedTuple

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
from jaxmix._src.platform import by_platform


class Start(NamedTuple):
  """The checked inputs of a draw, its partners and its random numbers.

  The numbers are uniform in [0, 1), in this order.

  Attributes:
    batch: number of samples `B`.
    spatial_shape: the lengths of the `d` spatial axes.
    count: number of independent draws n: `B`, or 1 for the whole batch.
    partner: int32 `[B]`.
    ratio: float32 `[n]`, for `ratio_of`.
    position: float32 `[B, d]`, for `pixel_of`; with one draw for the batch, a
      mode may use the first.
    choice: float32 `[n]`, for the choice of a mode.
    coin: float32 `[n]`, for a choice of two.
    angle: float32 `[n]`, for `ratio_of` if alpha is not 1.
  """

  batch: int
  spatial_shape: tuple[int, ...]
  count: int
  partner: jax.Array
  ratio: jax.Array
  position: jax.Array
  choice: jax.Array
  coin: jax.Array
  angle: jax.Array


def start_draw(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  pairing: str,
  granularity: str,
  partner: ArrayLike | None,
  last: str,
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
    last: the last of the numbers that the caller uses. On a CPU, where numbers
      cost more than calls, those that follow are zero.

  Raises:
    ValueError, TypeError: an argument has the wrong type or is unknown.
  """
  check_key(key)
  check_choice('granularity', granularity, GRANULARITIES)
  batch, spatial_shape = check_shape(shape)
  count = batch if granularity == 'sample' else 1
  sizes = _sizes(shape, count)
  ends = dict(zip(sizes, itertools.accumulate(sizes.values()), strict=True))
  total = sum(sizes.values())

  def some(key: jax.Array) -> jax.Array:
    used = jax.random.bits(key, (ends[last],), jnp.uint32)
    return jnp.pad(used, (0, total - ends[last]))

  def every(key: jax.Array) -> jax.Array:
    return jax.random.bits(key, (total,), jnp.uint32)

  cheapest = some if _is_counter(key) else every
  bits = by_platform(key, cpu=cheapest, default=every)
  split = jnp.split(bits, list(ends.values())[:-1])
  parts = dict(zip(sizes, split, strict=True))
  partner = find_partner(parts.pop('partner'), pairing=pairing, partner=partner)
  numbers = {name: to_uniform(part) for name, part in parts.items()}
  position = numbers.pop('position').reshape(batch, len(spatial_shape))
  return Start(
    batch, spatial_shape, count, partner, position=position, **numbers
  )


def more_numbers(
  key: jax.Array, shape: tuple[int, ...], count: int, size: int
) -> jax.Array:
  """Draws further numbers for `count` draws, uniform: float32 `[size]`.

  They follow those of `start_draw` in the sequence of the key. Another key
  would be a kernel of its own.
  """
  if not _is_counter(key):
    key = jax.random.fold_in(key, 1)
    return to_uniform(jax.random.bits(key, (size,), jnp.uint32))
  first = sum(_sizes(shape, count).values())
  return to_uniform(jax.random.bits(key, (first + size,), jnp.uint32)[first:])


def _is_counter(key: jax.Array) -> bool:
  """Returns whether number i of a key does not depend on how many are drawn.

  So it is with jax's default, also under `vmap`.
  """
  config: Any = jax.config  # type checkers do not know its settings
  if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    name = str(jax.random.key_impl(key))
  else:
    name = config.jax_default_prng_impl
  return 'threefry' in name and config.jax_threefry_partitionable


def _sizes(shape: tuple[int, ...], count: int) -> dict[str, int]:
  """Returns how many numbers there are of each kind, in their order."""
  batch, spatial_shape = check_shape(shape)
  return {
    'partner': batch,
    'ratio': count,
    'position': batch * len(spatial_shape),
    'choice': count,
    'coin': count,
    'angle': count,
  }


def to_uniform(bits: jax.Array) -> jax.Array:
  """Returns multiples of 2^-24 in [0, 1) for uint32 bits.

  >>> to_uniform(jnp.array([0, 2**31], jnp.uint32)).tolist()
  [0.0, 0.5]
  """
  # By way of int32, which CPUs convert at once.
  whole = (bits >> 8).astype(jnp.int32).astype(jnp.float32)
  return whole * jnp.float32(2**-24)
