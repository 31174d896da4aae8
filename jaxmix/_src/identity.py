"""Identity: the candidate of RandomMix that does not mix."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.checks import (
  GRANULARITIES,
  check_choice,
  check_key,
  check_partner,
  check_shape,
)
from jaxmix._src.mix import Mix
from jaxmix._src.settings import in_any_setting


@in_any_setting
def draw_identity(
  key: jax.Array,
  shape: tuple[int, ...],
  *,
  granularity: str = 'batch',
  partner: ArrayLike | None = None,
) -> Mix:
  """Draws the identity, which leaves every sample unchanged.

  Args:
    key: random key; not used.
    shape: `[B, *spatial, C]`, the shape of the images.
    granularity: `'batch'` or `'sample'`; both give the same result.
    partner: int `[B]`, the partners, which are not used. None: each sample is
      its own.

  Returns:
    A `Mix` with `lam` 1.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> draw_identity(jax.random.key(0), (2, 8, 8, 3)).lam.tolist()
  [1.0, 1.0]
  """
  check_key(key)
  check_choice('granularity', granularity, GRANULARITIES)
  batch, _ = check_shape(shape)
  if partner is None:
    partner = jnp.arange(batch, dtype=jnp.int32)
  return Mix(
    lam=jnp.ones(batch, jnp.float32), partner=check_partner(partner, batch)
  )
