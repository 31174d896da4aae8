"""Choosing one of several draws, for the batch or for each sample."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix._src.checks import check_shape
from jaxmix._src.mix import Mix

Draw = Callable[..., Mix]


def choose(key: jax.Array, count: int, chances: Any) -> jax.Array:
  """`count` indices, each with a probability in proportion to its chance."""
  bounds = jnp.cumsum(jnp.asarray(chances, jnp.float32))
  # Dividing makes the last bounds exactly 1, which a uniform number never is:
  # a weight of zero is never drawn, not even at the end of the list.
  bounds = bounds / bounds[-1]
  drawn = jax.random.uniform(key, (count, 1), jnp.float32)
  return jnp.sum(drawn >= bounds[:-1], axis=1, dtype=jnp.int32)


def alike(
  draws: Sequence[Draw], key: jax.Array, shape: tuple[int, ...]
) -> list[Callable[[jax.Array], Mix]]:
  """The draws with one structure, so that `switch` can choose among them.

  A part that only some of them have is filled with what changes nothing: a
  mask of ones, an empty box, a source that reads the same index. The parts are
  small; no image passes through the switch.
  """
  batch, space = check_shape(shape)
  plans = [jax.eval_shape(draw, key) for draw in draws]
  masks = [plan.mask for plan in plans if plan.mask is not None]
  mask_shape = None
  if masks:
    mask_shape = np.broadcast_shapes(*(mask.shape for mask in masks))
  # Bool masks stay bool unless somebody blends; no mask means no blending.
  mask_dtype = bool if all(m.dtype == bool for m in masks) else jnp.float32
  has_box = any(plan.box is not None for plan in plans)
  has_source = any(plan.source is not None for plan in plans)
  if any(plan.order is not None for plan in plans):
    raise ValueError('candidates must not move blocks (Mix.order).')
  methods = {plan.method for plan in plans} - {'nearest'}
  if len(methods) > 1:
    raise ValueError(f'candidates resize by different methods: {methods}.')

  def filled(draw: Draw, key: jax.Array) -> Mix:
    mix = draw(key)
    mask, box, source = mix.mask, mix.box, mix.source
    if mask_shape is not None:
      mask = jnp.ones((), bool) if mask is None else mask
      mask = jnp.broadcast_to(mask, mask_shape).astype(mask_dtype)
    if has_box and box is None:
      box = jnp.zeros((batch, len(space), 2), jnp.int32)
    if has_source and source is None:
      source = tuple(
        jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), (batch, n))
        for n in space
      )
    resized = mix.resized
    if methods and resized is None:
      resized = jnp.full(batch, mix.method != 'nearest')
    zeros = jnp.zeros(batch, jnp.int32)
    method = next(iter(methods), 'nearest')
    same = Mix(mix.lam, zeros, zeros, mask, box, source, resized, None, method)
    return jax.tree.map(functools.partial(_depend_on, key), same)

  return [functools.partial(filled, draw) for draw in draws]


def _depend_on(key: jax.Array, part: jax.Array) -> jax.Array:
  """Gives `part`, but as something computed from `key`.

  Inside `shard_map` the branches of a switch must agree on what differs between
  devices, and with a key for each device a constant does not. XLA drops the
  addition.
  """
  if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    key = jax.random.key_data(key)
  zero = key.ravel()[0] * 0
  return (
    part ^ (zero > 0) if part.dtype == bool else part + zero.astype(part.dtype)
  )


def choose_rows(choice: jax.Array, mixes: Sequence[Mix]) -> Mix:
  """Takes row `i` of every part from `mixes[choice[i]]`."""

  def select(*parts: jax.Array) -> jax.Array:
    result = parts[0]
    for index, part in enumerate(parts[1:], 1):
      chosen = (choice == index).reshape([-1] + [1] * (part.ndim - 1))
      result = jnp.where(chosen, part, result)
    return result

  return jax.tree.map(select, *mixes)
