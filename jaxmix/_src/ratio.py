"""The mixing ratio lambda ~ Beta(alpha, alpha)."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxmix._src.checks import check_alpha, is_concrete


def is_uniform(alpha: Any) -> bool:
  """Returns whether Beta(alpha, alpha) is known to be uniform.

  Raises:
    ValueError, TypeError: alpha is known and is not a finite number above 0.
  """
  check_alpha(alpha)
  return is_concrete(alpha) and float(alpha) == 1.0


def draw_ratio(key: jax.Array, count: int, alpha: Any) -> jax.Array:
  """Draws `count` ratios lambda ~ Beta(alpha, alpha), float32 `[count]`.

  They are NaN if alpha is traced and not above 0.

  >>> draw_ratio(jax.random.key(0), 2, 1.0).shape
  (2,)
  """
  uniform = jax.random.uniform(key, (2 * count,), jnp.float32)
  return ratio_of(uniform[:count], uniform[count:], alpha)


def ratio_of(uniform: jax.Array, angle: jax.Array, alpha: Any) -> jax.Array:
  """Returns ratios lambda ~ Beta(alpha, alpha) for uniform numbers.

  Args:
    uniform: float32 `[n]` in [0, 1).
    angle: float32 `[n]` in [0, 1), not used where alpha is known to be 1.
    alpha: above 0; if it is traced and not above 0, the result is NaN.

  >>> ratio_of(jnp.array([0.25]), jnp.array([0.0]), 1.0).tolist()
  [0.25]
  """
  if is_uniform(alpha):
    return uniform
  drawn = beta_of(uniform, angle, jnp.asarray(alpha, jnp.float32))
  return nan_if_invalid(drawn, alpha)


def beta_of(u: jax.Array, v: jax.Array, alpha: jax.Array) -> jax.Array:
  """Returns Beta(alpha, alpha) without the rejection loop of `jax.random`.

  That loop costs more than the mixing. A t variable with `2 alpha` degrees of
  freedom is drawn by Bailey's polar method (Mathematics of Computation 62,
  1994): `t^2 / (2 alpha) = (u^(-1 / alpha) - 1) cos^2(pi v)` with u and v
  uniform. Then `(1 + t / sqrt(2 alpha + t^2)) / 2` has the distribution
  Beta(alpha, alpha).

  Args:
    u: float32 `[n]` in [0, 1).
    v: float32 `[n]` in [0, 1).
    alpha: float32, above 0; other values are not detected here.

  >>> half = jnp.array([0.5])
  >>> beta_of(half, half, jnp.float32(1)).round(4).tolist()
  [0.5]
  """
  cos = jnp.cos(jnp.pi * v)
  square = jnp.expm1(-jnp.log1p(-u) / alpha) * jnp.square(cos)
  # The smaller of the ratio and its mirror image, computed without
  # cancellation: with a small alpha most draws lie near 0.
  length = jnp.sqrt(1 / (1 + 1 / square))
  smaller = 1 / (2 * (1 + square) * (1 + length))
  return jnp.where(cos > 0, 1 - smaller, smaller)


def last_number(alpha: Any, last: str) -> str:
  """Returns the last number of `start_draw` that a ratio needs, or `last`."""
  return last if is_uniform(alpha) else 'angle'


def nan_if_invalid(lam: jax.Array, alpha: Any) -> jax.Array:
  """Returns `lam`, or NaN where a traced `alpha` is not above 0.

  A known alpha was checked and raised. A traced one is only seen by the
  compiled program; a NaN in `lam` reaches the labels and the loss, so that
  nothing is trained with it.

  >>> nan_if_invalid(jnp.ones(2), 1.0).tolist()
  [1.0, 1.0]
  """
  if is_concrete(alpha):
    return lam
  return jnp.where(alpha > 0, lam, jnp.nan)
