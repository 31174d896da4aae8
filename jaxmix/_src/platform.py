"""The choice of a program by the platform that it is compiled for."""

from collections.abc import Callable
from typing import Any

import jax

from jaxmix._src.checks import is_concrete


def by_platform(
  *operands: Any,
  default: Callable[..., Any],
  **functions: Callable[..., Any],
) -> Any:
  """Calls the function of the platform, or `default`, with `operands`.

  All must return the same. The platforms are `cpu`, `tpu`, `cuda` and `rocm`.

  Under `jit` it is `jax.lax.platform_dependent`, so that the program suits the
  platform that it is lowered for. Outside, the platform is known; nothing is
  compiled.

  >>> by_platform(jax.numpy.ones(2), tpu=lambda x: 1 * x, default=lambda x: x)
  Array([1., 1.], dtype=float32)
  """
  if all(map(is_concrete, jax.tree.leaves(operands))):
    return functions.get(_platform(operands), default)(*operands)
  return jax.lax.platform_dependent(*operands, default=default, **functions)


def branch(
  condition: jax.Array,
  if_true: Callable[[], jax.Array],
  if_false: Callable[[], jax.Array],
) -> jax.Array:
  """Returns the result of one of two functions; only that one runs.

  >>> branch(jax.numpy.array(True), lambda: 1, lambda: 2)
  1
  """
  if is_concrete(condition):
    # Outside `jit`, a conditional would be compiled at every call.
    return if_true() if bool(condition) else if_false()
  # XLA moves what both branches end with behind the conditional, which would
  # then return larger arrays; not past a barrier.
  barrier = jax.lax.optimization_barrier
  return jax.lax.cond(
    condition, lambda: barrier(if_true()), lambda: barrier(if_false())
  )


def _platform(operands: Any) -> str:
  """Returns the platform that an eager call with these arrays runs on."""
  for leaf in jax.tree.leaves(operands):
    if isinstance(leaf, jax.Array):
      return next(iter(leaf.devices())).platform
  return jax.default_backend()
