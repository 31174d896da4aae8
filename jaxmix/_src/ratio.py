"""The mixing ratio lambda."""

from typing import Any

import jax
import numpy as np

from jaxmix._src.checks import check_alpha, is_concrete


def draw_ratio(key: jax.Array, count: int, alpha: Any) -> jax.Array:
  """Draws `count` ratios lambda ~ Beta(alpha, alpha), float32 `[count]`.

  Beta(1, 1) is the uniform law, and the uniform sampler is taken for it:
  `jax.random.beta` is a rejection loop that costs more than the mixing.

  >>> draw_ratio(jax.random.key(0), 2, 1.0).shape
  (2,)
  """
  check_alpha(alpha)
  if is_concrete(alpha) and float(alpha) == 1.0:
    return jax.random.uniform(key, (count,), np.float32)
  return jax.random.beta(key, alpha, alpha, (count,), np.float32)
