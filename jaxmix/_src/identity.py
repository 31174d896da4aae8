"""No mixing, as one of the candidates of RandomMix."""

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
  """The candidate that leaves every sample as it is.

  Args:
    key: random key, which is not used.
    shape: `[B, *spatial, C]`, the shape of the images.
    granularity: as for the other draws; both give the same.

  Returns:
    A `Mix` with `lam` 1 and nothing from anybody.

  Raises:
    ValueError, TypeError: an argument is of a wrong type or unknown.

  >>> draw_identity(jax.random.key(0), (2, 8, 8, 3)).lam.tolist()
  [1.0, 1.0]
  """
  check_key(key)
  check_choice('granularity', granularity, GRANULARITIES)
  batch, _ = check_shape(shape)
  return Mix(
    lam=jnp.ones(batch, jnp.float32),
    partner=jnp.arange(batch, dtype=jnp.int32),
    mode=jnp.zeros(batch, jnp.int32),
  )
