"""Identity: the candidate of RandomMix that does not mix."""

import jax
import jax.numpy as jnp

from jaxmix._src.checks import (
  GRANULARITIES,
  check_choice,
  check_key,
  check_shape,
)
from jaxmix._src.mix import Mix


def draw_identity(
  key: jax.Array, shape: tuple[int, ...], *, granularity: str = 'batch'
) -> Mix:
  """Draws the identity, which leaves every sample unchanged.

  Args:
    key: random key; not used.
    shape: `[B, *spatial, C]`, the shape of the images.
    granularity: `'batch'` or `'sample'`; both give the same result.

  Returns:
    A `Mix` with `lam` 1 and each sample as its own partner.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> draw_identity(jax.random.key(0), (2, 8, 8, 3)).lam.tolist()
  [1.0, 1.0]
  """
  check_key(key)
  check_choice('granularity', granularity, GRANULARITIES)
  batch, _ = check_shape(shape)
  return Mix(
    lam=jnp.ones(batch, jnp.float32),
    partner=jnp.arange(batch, dtype=jnp.int32),
  )
