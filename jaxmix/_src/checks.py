"""Argument checks of the public functions.

Each check raises a `ValueError` or `TypeError` that names the argument, its
value and the allowed values. Under `jit` only shapes and dtypes are known;
there an invalid value gives a NaN label or loss instead of an error.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

GRANULARITIES = ('batch', 'sample')
_SMALLEST = 8  # side from which a square is taken for an image


def is_concrete(value: Any) -> bool:
  """Returns whether `value` is known now, and not traced by `jit`."""
  return not isinstance(value, Tracer)


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
  """Raises ValueError unless `value` is one of `allowed`."""
  if value not in allowed:
    names = ', '.join(map(repr, allowed))
    raise ValueError(f'{name}={value!r} is unknown; allowed: {names}.')


def check_key(key: Any) -> None:
  """Raises TypeError unless `key` is one JAX random key, typed or raw."""
  is_array = isinstance(key, jax.Array | np.ndarray)
  typed = is_array and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
  if typed and key.shape == ():
    return
  if is_array and not typed and key.dtype == np.uint32 and key.ndim == 1:
    return
  given = f'{key.dtype}{list(key.shape)}' if is_array else repr(key)
  if len(given) > 60 or '\n' in given:
    given = f'a {type(key).__name__}'
  hint = 'The order of arguments is (key, images, labels).'
  if callable(key):
    hint = (
      'A stream of keys, such as flax.nnx.Rngs, gives one by a call: rngs().'
    )
  raise TypeError(
    'key must be one JAX random key, e.g. jax.random.key(0); got '
    f'{given}. {hint}'
  )


def check_shape(shape: Sequence[int]) -> tuple[int, tuple[int, ...]]:
  """Splits the shape `[B, *spatial, C]` of images: `(B, spatial_shape)`."""
  if hasattr(shape, 'shape'):
    raise TypeError(
      'shape must be the shape of the images, a tuple of integers; got an '
      f'array of shape {list(shape.shape)}: pass images.shape.'  # type: ignore
    )
  shape = tuple(shape)
  if len(shape) < 3:
    raise ValueError(
      f'images must have rank 3 or more: [batch, *spatial, channels]; got '
      f'shape {list(shape)}. Sound [batch, time] and greyscale images need a '
      'channel axis, images[..., None]; one image needs a batch axis, '
      'images[None].'
    )
  if min(shape) < 1:
    raise ValueError(
      f'images have shape {list(shape)}; every axis must have at least one '
      'element.'
    )
  return shape[0], shape[1:-1]


def check_layout(shape: Sequence[int]) -> None:
  """Raises ValueError if a shape is that of images in another layout.

  For functions that treat the spatial axes unlike the channels. Channels first
  or no channels would be mixed without an error, along the wrong axes.
  """
  check_shape(shape)
  shape = tuple(shape)
  if len(shape) == 3 and shape[1] == shape[2] >= _SMALLEST:
    raise ValueError(
      f'images have shape {list(shape)}, like square greyscale images or masks '
      'without a channel axis: write images[..., None]. For a signal of '
      f'{shape[1]} steps and {shape[2]} channels write spatial_axes=(1,), if '
      'the function has it.'
    )
  if len(shape) == 4 and shape[1] in (1, 3, 4) and min(shape[2:]) >= _SMALLEST:
    raise ValueError(
      f'images have shape {list(shape)}, like images with the channels first: '
      'write images.transpose(0, 2, 3, 1). To accept them as images of '
      f'{shape[1]} x {shape[2]} pixels and {shape[3]} channels write '
      'spatial_axes=(1, 2), if the function has it.'
    )


def check_images(images: Any, *, any_dtype: bool = False) -> jax.Array:
  """Returns `images` as an array of rank >= 3 in a dtype that can be mixed."""
  if not hasattr(images, 'dtype') or not hasattr(images, 'shape'):
    raise TypeError(f'images must be an array; got {type(images).__name__}.')
  check_shape(images.shape)
  floating = jnp.issubdtype(images.dtype, jnp.floating)
  if not (any_dtype or floating or images.dtype == np.uint8):
    raise TypeError(
      f'images have dtype {images.dtype}; allowed: uint8 and floating point. '
      'Cast them, or copy whole pixels with '
      'jaxmix.apply(mix, images, hard=True), as for segmentation masks.'
    )
  return jnp.asarray(images)


def check_partner(partner: Any, batch: int) -> jax.Array:
  """Returns the partners as int32 `[batch]`, each in [0, batch)."""
  if not hasattr(partner, 'dtype') or not hasattr(partner, 'shape'):
    raise TypeError(f'partner must be an array; got {type(partner).__name__}.')
  integer = jnp.issubdtype(partner.dtype, jnp.integer)
  if not integer or tuple(partner.shape) != (batch,):
    raise ValueError(
      f'partner must be integers [{batch}], one for each sample; got '
      f'{partner.dtype}{list(partner.shape)}.'
    )
  if is_concrete(partner):
    known = np.asarray(partner)
    if known.min() < 0 or known.max() >= batch:
      raise ValueError(
        f'partner must lie in [0, {batch}) for a batch of {batch}; got values '
        f'from {known.min()} to {known.max()}.'
      )
  return jnp.asarray(partner, jnp.int32)


def check_saliency(
  saliency: Any, shape: Sequence[int] | None = None
) -> jax.Array:
  """Returns `saliency` as an array `[B, *spatial]`.

  Args:
    saliency: the argument to check.
    shape: `[B, *spatial, C]` of the images, if known.
  """
  if not hasattr(saliency, 'dtype') or not hasattr(saliency, 'shape'):
    raise TypeError(
      f'saliency must be an array; got {type(saliency).__name__}.'
    )
  saliency_shape = tuple(saliency.shape)
  if len(saliency_shape) < 2 or min(saliency_shape) < 1:
    raise ValueError(
      f'saliency must be [batch, *spatial]; got shape {list(saliency_shape)}.'
    )
  if shape is not None and saliency_shape != tuple(shape[:-1]):
    raise ValueError(
      f'saliency has shape {list(saliency_shape)}; these images need '
      f'{list(shape[:-1])}.'
    )
  return jnp.asarray(saliency)


def check_grid(name: str, count: Any, shape: Sequence[int]) -> None:
  """Raises unless images `[B, H, W, C]` can be cut into `count x count` blocks.

  `count` must be 2 or more.
  """
  if len(shape) != 4:
    raise ValueError(
      f'images must have shape [batch, height, width, channels] to be cut into '
      f'blocks; got {list(shape)}.'
    )
  if type(count) is not int or count < 2 or any(n % count for n in shape[1:3]):
    raise ValueError(
      f'{name}={count!r} must be a whole number of 2 or more that divides the '
      f'sides of the images, {list(shape[1:3])}.'
    )


def check_finite(name: str, array: Any) -> None:
  """Raises ValueError if a known number is NaN or infinite."""
  if not is_concrete(array) or not jnp.issubdtype(array.dtype, jnp.floating):
    return
  # On the array's device; under jit, jnp would trace even a constant.
  with jax.ensure_compile_time_eval():
    if bool(jnp.isfinite(array).all()):
      return
  known = np.asarray(array)
  index = np.argwhere(~np.isfinite(known))[0].tolist()
  raise ValueError(
    f'{name} must be finite; got {known[tuple(index)]} at {index}.'
  )


def check_alpha(alpha: Any, name: str = 'alpha') -> None:
  """Raises unless `alpha`, if known, is one finite number above 0."""
  if not is_concrete(alpha):
    if jnp.ndim(alpha):
      raise ValueError(
        f'{name} has shape {list(jnp.shape(alpha))}; it must be one number.'
      )
    return
  try:
    if isinstance(alpha, str):
      raise TypeError
    value = float(alpha)
  except (TypeError, ValueError):
    raise TypeError(f'{name}={alpha!r} must be a number.') from None
  if not (math.isfinite(value) and value > 0):
    raise ValueError(
      f'{name}={value!r} must be above 0 and finite (Beta({name}, {name})).'
    )


def check_number(name: str, value: Any, low: float, high: float) -> None:
  """Raises unless `value` is a number with `low <= value <= high`."""
  if not isinstance(value, int | float | np.number):
    raise TypeError(f'{name}={value!r} must be a number.')
  if not low <= value <= high:
    raise ValueError(f'{name}={value!r} must lie in [{low}, {high}].')


def check_whole(name: str, value: Any, low: int) -> None:
  """Raises unless `value` is a Python integer of `low` or more."""
  if type(value) is not int or value < low:
    raise ValueError(
      f'{name}={value!r} must be a whole number of {low} or more.'
    )


def check_weights(
  weights: Any, candidates: Sequence[Any]
) -> np.ndarray | jax.Array:
  """Returns the weights of the candidates as a float array.

  It is a numpy array if all weights are known. None means equal weights. A
  mapping has them by name; a candidate that it does not name has 0.
  """
  count = len(candidates)
  if weights is None:
    return np.ones(count)
  given = weights
  if hasattr(weights, 'keys'):
    for name in weights.keys():
      check_choice('weights: candidate', name, candidates)
    weights = [
      weights[name] if name in weights.keys() else 0 for name in candidates
    ]
  is_sequence = isinstance(weights, Sequence) or np.ndim(weights) > 0
  if isinstance(weights, str) or not is_sequence:
    raise TypeError(
      f'weights={weights!r} must be a sequence with one number for each '
      'candidate, or a mapping by candidate.'
    )
  if any(isinstance(weight, str) for weight in weights):
    raise TypeError(f'weights={given!r} must be numbers, not strings.')
  known = is_concrete(weights) and all(map(is_concrete, weights))
  array = np.asarray(weights, float) if known else jnp.asarray(weights)
  if array.shape != (count,):
    raise ValueError(
      f'weights={given!r} must have one number for each of the {count} '
      f'candidates.'
    )
  if isinstance(array, np.ndarray):
    if not np.all(np.isfinite(array)) or np.any(array < 0):
      raise ValueError(f'weights={given!r} must be finite and 0 or more.')
    if not np.any(array > 0):
      raise ValueError(
        f'weights={given!r} are all zero; at least one must be above 0.'
      )
    array = array / array.max()  # within the range of float32
  return array
