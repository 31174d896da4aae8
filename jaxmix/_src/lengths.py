"""The mixing ratio of padded sequences, counted over their valid steps."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmix._src.boxes import inside
from jaxmix._src.checks import is_concrete
from jaxmix._src.mix import Mix
from jaxmix._src.settings import in_any_setting


@in_any_setting
def with_lengths(mix: Mix, lengths: ArrayLike) -> Mix:
  """Counts `lam` of padded sequences over valid steps only.

  Sample `i` is valid up to step `lengths[i]` of the first spatial axis. `lam`
  becomes `own / (own + other)`: `own` is the sum of the weights of the sample's
  own pixels that are valid, `other` that of the partner's pixels that are valid
  where they are read. The pixels are mixed as before. The mixed sequence is
  valid up to `max(lengths, lengths[mix.partner])`, except that ResizeMix may
  write valid steps of the partner anywhere.

  Args:
    mix: a draw for `[B, steps, *spatial, C]`, of any mode that does not move
      blocks.
    lengths: int `[B]`, the number of valid steps of each sample, from 1 to the
      number of steps. A traced value out of range gives `lam` NaN.

  Returns:
    `mix` with another `lam`: 1 if nothing is mixed.

  Raises:
    ValueError, TypeError: lengths of another shape, dtype or range, or a draw
      that moves blocks or does not know its `spatial_shape`.

  >>> import jaxmix
  >>> box = jnp.array([[[2, 6]], [[2, 6]]])
  >>> mix = jaxmix.Mix(
  ...   lam=jnp.array([0.5, 0.5]),
  ...   partner=jnp.array([1, 0]),
  ...   box=box,
  ...   spatial_shape=(8,),
  ... )
  >>> with_lengths(mix, jnp.array([2, 8])).lam.tolist()
  [0.3333333432674408, 1.0]
  """
  if mix.order is not None:
    raise ValueError(
      'mix moves blocks (Mix.order), so that steps are not in order; lengths '
      'are for the other modes.'
    )
  weight, other_weight = _weights_of_steps(mix)
  steps = weight.shape[1] if weight.shape[1] > 1 else None
  if mix.spatial_shape is not None:
    steps = mix.spatial_shape[0]
  lengths = _check_lengths(lengths, mix.partner.shape[0], steps)
  valid = lengths >= 1
  if steps is not None:
    valid &= lengths <= steps
  other_lengths = lengths[mix.partner]
  if mix.source is None and weight.shape[1] == 1:
    # The same at every step, whose number need not be known.
    own = weight[:, 0] * lengths.astype(jnp.float32)
    other = other_weight[:, 0] * other_lengths.astype(jnp.float32)
  else:
    step = jnp.arange(weight.shape[1], dtype=jnp.int32)[None]
    source = step if mix.source is None else mix.source[0]
    own = jnp.where(step < lengths[:, None], weight, 0).sum(1)
    other = jnp.where(source < other_lengths[:, None], other_weight, 0).sum(1)
  total = own + other
  lam = jnp.where(total > 0, own / jnp.where(total > 0, total, 1), 1)
  # A draw with an invalid parameter stays NaN.
  valid = valid & valid[mix.partner] & ~jnp.isnan(mix.lam)
  return dataclasses.replace(mix, lam=jnp.where(valid, lam, jnp.nan))


def _weights_of_steps(mix: Mix) -> tuple[jax.Array, jax.Array]:
  """Returns the sums of the own and the partner's weights at each step.

  Returns:
    Two arrays float32 `[1 or B, 1 or steps]`.
  """
  if mix.box is None and mix.source is None:
    if mix.mask is None:
      return jnp.ones((1, 1), jnp.float32), jnp.zeros((1, 1), jnp.float32)
    weight = mix.mask.astype(jnp.float32)
  else:
    shape = mix.spatial_shape
    if mix.source is not None:
      shape = tuple(index.shape[1] for index in mix.source)
    if shape is None:
      raise ValueError(
        'mix.spatial_shape=None, but lengths need it: '
        'dataclasses.replace(mix, spatial_shape=images.shape[1:-1]).'
      )
    weight = jnp.ones((1, *shape), jnp.float32)
    if mix.mask is not None:
      weight = jnp.broadcast_to(mix.mask, (len(mix.mask), *shape))
      weight = weight.astype(jnp.float32)
    if mix.box is not None:
      weight = jnp.where(inside(mix.box, shape), 0, weight)
  axes = tuple(range(2, weight.ndim))
  own = jnp.sum(weight, axis=axes)
  return own, jnp.sum(1 - weight, axis=axes)


def _check_lengths(lengths: Any, batch: int, steps: int | None) -> jax.Array:
  """Returns `lengths` as int32 `[B]`; known ones lie in [1, steps]."""
  if not hasattr(lengths, 'dtype') or not hasattr(lengths, 'shape'):
    raise TypeError(f'lengths must be an array; got {type(lengths).__name__}.')
  integer = jnp.issubdtype(lengths.dtype, jnp.integer)
  if not integer or tuple(lengths.shape) != (batch,):
    raise ValueError(
      f'lengths must be integers [{batch}], one for each sample; got '
      f'{lengths.dtype}{list(lengths.shape)}.'
    )
  if is_concrete(lengths):
    known = np.asarray(lengths)
    low, high = int(known.min()), int(known.max())
    if low < 1 or (steps is not None and high > steps):
      allowed = '1 or more'
      if steps is not None:
        allowed = f'from 1 to {steps}, the length of the first spatial axis'
      raise ValueError(
        f'lengths must be {allowed}; got values from {low} to {high}.'
      )
  return jnp.asarray(lengths, jnp.int32)
