"""The mixing ratio lambda."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxmix._src.checks import check_alpha, is_concrete


def is_uniform(alpha: Any) -> bool:
  """Whether Beta(alpha, alpha) is known to be the uniform law.

  Raises:
    ValueError, TypeError: alpha is known and is not a finite number above 0.
  """
  check_alpha(alpha)
  return is_concrete(alpha) and float(alpha) == 1.0


def draw_ratio(key: jax.Array, count: int, alpha: Any) -> jax.Array:
  """Draws `count` ratios lambda ~ Beta(alpha, alpha), float32 `[count]`.

  Beta(1, 1) is the uniform law.

  >>> draw_ratio(jax.random.key(0), 2, 1.0).shape
  (2,)
  """
  if is_uniform(alpha):
    return jax.random.uniform(key, (count,), jnp.float32)
  return draw_beta(key, count, jnp.asarray(alpha, jnp.float32))


def draw_beta(key: jax.Array, count: int, alpha: jax.Array) -> jax.Array:
  """Draws from Beta(alpha, alpha) without the rejection loop of `jax.random`.

  That loop costs more than the mixing. A t variable of `2 alpha` degrees of
  freedom is drawn by Bailey's polar method (Mathematics of Computation 62,
  1994): `t^2 / (2 alpha) = (u^(-1 / alpha) - 1) cos^2(pi v)` with u and v
  uniform; `(1 + t / sqrt(2 alpha + t^2)) / 2` then has the law wanted.

  Args:
    key: random key.
    count: how many.
    alpha: float32, above 0; NaN is drawn otherwise.

  >>> draw_beta(jax.random.key(0), 2, jnp.float32(0.2)).shape
  (2,)
  """
  u, v = jax.random.uniform(key, (2 * count,), jnp.float32).reshape(2, count)
  cos = jnp.cos(jnp.pi * v)
  square = jnp.expm1(-jnp.log1p(-u) / alpha) * jnp.square(cos)
  # The smaller of the ratio and its mirror image, with nothing cancelled: near
  # 0 lie most draws of a small alpha.
  length = jnp.sqrt(1 / (1 + 1 / square))
  smaller = 1 / (2 * (1 + square) * (1 + length))
  ratio = jnp.where(cos > 0, 1 - smaller, smaller)
  return jnp.where(alpha > 0, ratio, jnp.nan)
