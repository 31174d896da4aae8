"""The axes of a batch that masks and boxes vary over."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxmix._src.checks import check_shape
from jaxmix._src.mix import Mix


def named_shape(shape: Sequence[int], spatial_axes: Any) -> tuple[int, ...]:
  """Returns `shape` without the axes that masks and boxes do not vary over.

  Raises:
    ValueError, TypeError: an axis is not between the batch and the channels.

  >>> named_shape((4, 8, 32, 32, 3), (2, 3))
  (4, 32, 32, 3)
  """
  check_shape(shape)
  if spatial_axes is None:
    return tuple(shape)
  last = len(shape) - 2
  named = spatial_axes if isinstance(spatial_axes, Sequence) else ()
  valid = all(type(axis) is int and 1 <= axis <= last for axis in named)
  if not named or not valid or list(named) != sorted(set(named)):
    raise ValueError(
      f'spatial_axes={spatial_axes!r} must be one or more different axes in '
      f'order, from 1 to {last} for images of shape {list(shape)}; None: all '
      'of them.'
    )
  return (shape[0], *(shape[axis] for axis in named), shape[-1])


def spread(mix: Mix, shape: Sequence[int], spatial_axes: Any) -> Mix:
  """Returns a draw for `shape`, the same along the axes that are not named.

  Args:
    mix: a draw for `named_shape(shape, spatial_axes)`.
    shape: `[B, *spatial, C]`.
    spatial_axes: as for `named_shape`.

  >>> mix = Mix(jnp.ones(1), jnp.zeros(1, jnp.int32), box=jnp.ones((1, 1, 2)))
  >>> spread(mix, (1, 8, 9, 3), (2,)).box.tolist()
  [[[0.0, 8.0], [1.0, 1.0]]]
  """
  spatial_shape = tuple(shape[1:-1])
  if spatial_axes is None:
    return dataclasses.replace(mix, spatial_shape=spatial_shape)
  others = [
    axis for axis in range(len(spatial_shape)) if axis + 1 not in spatial_axes
  ]
  mask, box, source = mix.mask, mix.box, mix.source
  batch = mix.partner.shape[0]
  for axis in others:
    length = spatial_shape[axis]
    if mask is not None:
      mask = jnp.expand_dims(mask, axis + 1)
    if box is not None:
      whole = jnp.broadcast_to(jnp.array([0, length], box.dtype), (batch, 1, 2))
      box = jnp.concatenate([box[:, :axis], whole, box[:, axis:]], axis=1)
    if source is not None:
      index = jnp.arange(length, dtype=source[0].dtype)
      index = jnp.broadcast_to(index, (batch, length))
      source = (*source[:axis], index, *source[axis:])
  return dataclasses.replace(
    mix, mask=mask, box=box, source=source, spatial_shape=spatial_shape
  )
