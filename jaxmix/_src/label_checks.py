"""Argument checks of labels, and of which labels count."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix._src.checks import is_concrete


def check_labels(
  name: str,
  labels: Any,
  batch: int,
  num_classes: int | None,
  where: jax.Array | np.ndarray | None = None,
) -> jax.Array:
  """Returns labels as int32 `[B]` or floating point `[B, K]`.

  Dense labels may be given as integers or bool; a traced integer other than 0
  and 1 becomes NaN. Values that do not count by `where` are not checked.
  """
  if not hasattr(labels, 'dtype') or not hasattr(labels, 'shape'):
    raise TypeError(f'{name} must be an array; got {type(labels).__name__}.')
  shape = list(labels.shape)
  single = 'A single image and its label need a batch axis: images[None]'
  if len(shape) not in (1, 2):
    hint = f' {single}, {name}[None].' if not shape else ''
    raise ValueError(
      f'{name} must be integers [batch] or dense [batch, classes]; got shape '
      f'{shape}.{hint}'
    )
  if shape[0] != batch:
    hint = f' {single}.' if shape[0] == 1 else ''
    raise ValueError(
      f'{name} have shape {shape}, but there are {batch} images.{hint}'
    )
  if len(shape) == 1:
    if not jnp.issubdtype(labels.dtype, jnp.integer):
      raise TypeError(
        f'{name} [batch] must be integers; got {labels.dtype}. Targets of a '
        f'regression need an axis: {name}[:, None].'
      )
    if num_classes is None:
      raise ValueError(
        'num_classes=None: integer labels need the number of classes to be '
        'mixed. Pass it, or keep the labels and use '
        'jaxmix.mixed_cross_entropy.'
      )
    _check_num_classes(num_classes)
    known = _known_counted(labels, where)
    if known is not None:
      low, high = int(known.min()), int(known.max())
      if low < 0 or high >= num_classes:
        raise ValueError(
          f'{name} must lie in [0, {num_classes}) for num_classes='
          f'{num_classes}; got values from {low} to {high}. Labels that do not '
          'count are left out by where, for example where=labels != -1.'
        )
    # A narrow integer type may not hold the number of classes, and a wide one
    # may hold labels that would be others in int32.
    labels = jnp.asarray(labels)
    if labels.dtype.itemsize > 4:
      labels = jnp.clip(labels, max=num_classes)
    return labels.astype(jnp.int32)
  if num_classes is not None and num_classes != shape[1]:
    hint = ''
    if shape[1] == 1 and jnp.issubdtype(labels.dtype, jnp.integer):
      hint = f' Integer labels have one axis: {name}[:, 0].'
    raise ValueError(
      f'num_classes={num_classes} but {name} have shape {shape}.{hint}'
    )
  return _check_dense(name, labels, where)


def _check_dense(
  name: str, labels: Any, where: jax.Array | np.ndarray | None
) -> jax.Array:
  """Returns labels `[B, K]` as floating point."""
  if labels.dtype == bool:
    return jnp.asarray(labels, jnp.float32)
  if jnp.issubdtype(labels.dtype, jnp.floating):
    check_values(name, labels, where, jnp.isfinite, 'be finite')
    return jnp.asarray(labels)
  if not jnp.issubdtype(labels.dtype, jnp.integer):
    raise TypeError(
      f'dense {name} [batch, classes] must be floating point, integers 0 and '
      f'1, or bool; got {labels.dtype}.'
    )
  check_values(
    name, labels, where, lambda x: (x == 0) | (x == 1), 'be 0 or 1 as integers'
  )
  labels = jnp.asarray(labels)
  dense = labels.astype(jnp.float32)
  return jnp.where((labels == 0) | (labels == 1), dense, jnp.nan)


def check_values(
  name: str, array: Any, where: Any, allowed: Any, rule: str
) -> None:
  """Raises ValueError at the first known value that counts and is not allowed.

  Args:
    name: of the argument.
    array: `[B, K]`.
    where: bool `[B]` or `[B, K]`, the values that count; None: all.
    allowed: function of an array that tells which values are allowed.
    rule: what a value must be, for the message.
  """
  if not is_concrete(array) or not is_concrete(where):
    return
  # On the array's device; under jit, jnp would trace even a constant.
  with jax.ensure_compile_time_eval():
    good = allowed(jnp.asarray(array))
    if where is not None:
      counts = jnp.asarray(where)
      good = good | ~(counts if counts.ndim == 2 else counts[:, None])
    if bool(good.all()):
      return
  index = np.argwhere(~np.asarray(good))[0].tolist()
  raise ValueError(
    f'{name} must {rule}; got {np.asarray(array)[tuple(index)]} at {index}.'
  )


def check_where(
  where: Any, batch: int, classes: int | None = None
) -> jax.Array | np.ndarray | None:
  """Returns `where` if it is bool `[B]`, or `[B, K]` if `classes` is given."""
  if where is None:
    return None
  if not hasattr(where, 'dtype') or not hasattr(where, 'shape'):
    raise TypeError(
      f'where must be an array; got {type(where).__name__}. For example '
      'where=labels != -1.'
    )
  if where.dtype != bool:
    raise TypeError(
      f'where must be bool; got {where.dtype}. For example where=labels != -1.'
    )
  shapes = [(batch,)] + ([] if classes is None else [(batch, classes)])
  if tuple(where.shape) not in shapes:
    allowed = ' or '.join(str(list(shape)) for shape in shapes)
    raise ValueError(
      f'where must have shape {allowed}; got {list(where.shape)}.'
    )
  return where


def _check_num_classes(num_classes: Any) -> None:
  """Raises unless `num_classes` is a positive Python integer."""
  whole = isinstance(num_classes, int | np.integer)
  if not whole or isinstance(num_classes, bool) or num_classes < 1:
    raise ValueError(
      f'num_classes={num_classes!r} must be an integer of 1 or more.'
    )


def _known_counted(labels: Any, where: Any) -> np.ndarray | None:
  """Returns the labels that count; None if they are not known or there is none.

  As numpy: under jit, jnp would trace even a constant.
  """
  if not is_concrete(labels) or not is_concrete(where):
    return None
  known = np.asarray(labels)
  if where is not None:
    known = known[np.asarray(where)]
  return known if known.size else None
