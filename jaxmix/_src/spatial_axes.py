"""The axes of a batch that masks and boxes vary over."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.checks import check_layout, check_saliency, check_shape
from jaxmix._src.mix import Mix


def named_shape(shape: Sequence[int], spatial_axes: Any) -> tuple[int, ...]:
  """Returns `shape` without the axes that masks and boxes do not vary over.

  Raises:
    ValueError, TypeError: an axis is not between the batch and the channels, or
      no axis is named and the shape looks like that of another layout.

  >>> named_shape((4, 8, 32, 32, 3), (2, 3))
  (4, 32, 32, 3)
  """
  if spatial_axes is None:
    check_layout(shape)
    return tuple(shape)
  check_shape(shape)
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


def named_saliency(
  saliency: ArrayLike, shape: Sequence[int], spatial_axes: Any
) -> jax.Array:
  """Returns the mean of `saliency` over the axes that are not named.

  Raises:
    ValueError, TypeError: `saliency` is not of images of this shape.

  >>> named_saliency(jnp.array([[[1.0, 2.0], [3.0, 4.0]]]), (1, 2, 2, 3), (2,))
  Array([[2., 3.]], dtype=float32)
  """
  saliency = check_saliency(saliency, shape)
  if spatial_axes is None:
    return saliency
  others = [n for n in range(1, saliency.ndim) if n not in spatial_axes]
  return jnp.mean(saliency, axis=others) if others else saliency


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
  mask, box, source = mix.mask, mix.box, mix.source
  if box is not None:
    box = spread_box(box, shape, spatial_axes)
  batch = mix.partner.shape[0]
  for axis, length in _others(shape, spatial_axes):
    if mask is not None:
      mask = jnp.expand_dims(mask, axis + 1)
    if source is not None:
      index = jnp.arange(length, dtype=source[0].dtype)
      index = jnp.broadcast_to(index, (batch, length))
      source = (*source[:axis], index, *source[axis:])
  return dataclasses.replace(
    mix, mask=mask, box=box, source=source, spatial_shape=spatial_shape
  )


def spread_box(
  box: jax.Array, shape: Sequence[int], spatial_axes: Any
) -> jax.Array:
  """Returns boxes that are the whole length of the axes that are not named.

  >>> spread_box(jnp.array([[[2, 3]]]), (1, 8, 9, 3), (2,)).tolist()
  [[[0, 8], [2, 3]]]
  """
  for axis, length in _others(shape, spatial_axes):
    whole = jnp.broadcast_to(
      jnp.array([0, length], box.dtype), (len(box), 1, 2)
    )
    box = jnp.concatenate([box[:, :axis], whole, box[:, axis:]], axis=1)
  return box


def _others(shape: Sequence[int], spatial_axes: Any) -> list[tuple[int, int]]:
  """Returns the axes that are not named, counted from 0, and their lengths."""
  if spatial_axes is None:
    return []
  return [
    (axis, length)
    for axis, length in enumerate(shape[1:-1])
    if axis + 1 not in spatial_axes
  ]
