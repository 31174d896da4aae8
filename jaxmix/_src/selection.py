"""Selection of one of several draws, for the batch or for each sample."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix._src.checks import check_shape
from jaxmix._src.mix import Mix

Draw = Callable[..., Mix]


def choose(uniform: jax.Array, weights: np.ndarray | jax.Array) -> jax.Array:
  """Returns an index for each number, in proportion to `weights`: int32 `[n]`.

  Args:
    uniform: float32 `[n]` in [0, 1).
    weights: `[candidates]`.

  >>> choose(jnp.array([0.2, 0.8]), np.array([1, 3])).tolist()
  [0, 1]
  """
  bounds = jnp.cumsum(jnp.asarray(weights, jnp.float32))
  # Dividing makes the last bounds exactly 1, which a uniform number never
  # reaches: a weight of zero is never drawn, not even at the end of the list.
  bounds = bounds / bounds[-1]
  choice = jnp.zeros(uniform.shape, jnp.int32)
  for index in range(len(weights) - 1):
    choice = choice + (uniform >= bounds[index])
  return choice


def pad_to_common_structure(
  draws: Sequence[Draw], key: jax.Array, shape: tuple[int, ...]
) -> list[Callable[[jax.Array], Mix]]:
  """Returns the draws with one pytree structure, for `lax.switch`.

  A field that only some of them have is filled with a neutral value: a mask of
  ones, an empty box, a source that reads the same index. The fields are small;
  no image passes through the switch.
  """
  batch, spatial_shape = check_shape(shape)
  outputs = [jax.eval_shape(draw, key) for draw in draws]
  masks = [mix.mask for mix in outputs if mix.mask is not None]
  mask_shape = None
  if masks:
    mask_shape = np.broadcast_shapes(*(mask.shape for mask in masks))
  # The mask is bool unless a candidate blends; no mask means no blending.
  mask_dtype = bool if all(m.dtype == bool for m in masks) else jnp.float32
  has_box = any(mix.box is not None for mix in outputs)
  has_source = any(mix.source is not None for mix in outputs)
  if any(mix.order is not None for mix in outputs):
    raise ValueError('candidates must not move blocks (Mix.order).')
  methods = {mix.method for mix in outputs} - {'nearest'}
  if len(methods) > 1:
    raise ValueError(
      f'candidates must resize by one method; got {sorted(methods)}.'
    )

  def padded(draw: Draw, key: jax.Array) -> Mix:
    mix = draw(key)
    mask, box, source = mix.mask, mix.box, mix.source
    if mask_shape is not None:
      mask = jnp.ones((), bool) if mask is None else mask
      mask = jnp.broadcast_to(mask, mask_shape).astype(mask_dtype)
    if has_box and box is None:
      box = jnp.zeros((batch, len(spatial_shape), 2), jnp.int32)
    if has_source and source is None:
      source = tuple(
        jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), (batch, n))
        for n in spatial_shape
      )
    resized = mix.resized
    if has_source and resized is None:
      resized = jnp.full(batch, mix.source is not None)
    result = Mix(
      lam=mix.lam,
      partner=jnp.zeros(batch, jnp.int32),  # the caller sets the partner
      mask=mask,
      box=box,
      source=source,
      resized=resized,
      spatial_shape=spatial_shape,
      method=next(iter(methods), 'nearest'),
    )
    return jax.tree.map(functools.partial(_depend_on, key), result)

  return [functools.partial(padded, draw) for draw in draws]


def _depend_on(key: jax.Array, part: jax.Array) -> jax.Array:
  """Returns `part` unchanged, but as a function of `key`.

  Inside `shard_map` the branches of a switch must agree on which values differ
  between devices. With a key for each device, a constant does not differ but
  the other branches' values do. XLA removes the addition.
  """
  if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    key = jax.random.key_data(key)
  zero = key.ravel()[0] * 0
  return (
    part ^ (zero > 0) if part.dtype == bool else part + zero.astype(part.dtype)
  )


def select(choice: jax.Array, mixes: Sequence[Mix]) -> Mix:
  """Returns a `Mix` whose sample `i` is taken from `mixes[choice[i]]`.

  Args:
    choice: int32 `[B]`, or `[1]` for all samples.
    mixes: draws of one structure.
  """

  def chosen(*parts: jax.Array) -> jax.Array:
    result = parts[0]
    for index, part in enumerate(parts[1:], 1):
      mine = (choice == index).reshape([-1] + [1] * (part.ndim - 1))
      result = jnp.where(mine, part, result)
    return result

  return jax.tree.map(chosen, *mixes)
