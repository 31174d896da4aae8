"""The settings of jax that a caller may have chosen."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax

from jaxmix._src.sharding import call_on_any_mesh

Args = ParamSpec('Args')
Result = TypeVar('Result')
_CONFIG: Any = jax.config  # type checkers do not know its settings


def in_any_setting(function: Callable[Args, Result]) -> Callable[Args, Result]:
  """Returns a function that works in every setting of jax.

  It accepts arrays on a mesh with Explicit axes, and promotes ranks and dtypes
  where `jax_numpy_rank_promotion` or `jax_numpy_dtype_promotion` forbids that
  to the caller. In the default settings the function is called and nothing else
  is done.

  >>> add = in_any_setting(lambda x, y: x + y)
  >>> with jax.numpy_rank_promotion('raise'):
  ...   add(jax.numpy.ones((1, 2)), jax.numpy.ones(2)).tolist()
  [[2.0, 2.0]]
  """

  @functools.wraps(function)
  def call(*args: Args.args, **kwargs: Args.kwargs) -> Result:
    if _CONFIG.jax_numpy_rank_promotion != 'allow':
      with jax.numpy_rank_promotion('allow'):
        return call(*args, **kwargs)
    if _CONFIG.jax_numpy_dtype_promotion != 'standard':
      with jax.numpy_dtype_promotion('standard'):
        return call(*args, **kwargs)
    return call_on_any_mesh(function, args, kwargs)

  return call
