"""Arrays on a mesh with Explicit axes.

On such a mesh, which `jax.make_mesh` makes by default, the sharding of an array
is part of its type, and an operation whose result has no obvious sharding is an
error: a gather of partners is one. Here a whole function is computed with these
axes Auto, where XLA partitions it, and what it returns is given a sharding.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import (
  AbstractMesh,
  AxisType,
  Mesh,
  NamedSharding,
  PartitionSpec,
  get_abstract_mesh,
  reshard,
  use_abstract_mesh,
)

from jaxmix._src.checks import is_concrete

Specs = dict[tuple[int, ...], PartitionSpec]  # by the shape of the array


def call_on_any_mesh(
  function: Callable[..., Any], args: Any, kwargs: dict[str, Any]
) -> Any:
  """Calls a function with arrays that may be on a mesh with Explicit axes.

  A result is sharded like the argument of its shape, or else as the arguments
  are sharded over the batch, the first axis. Other results are replicated.
  Without Explicit axes the function is called and nothing else is done.

  >>> call_on_any_mesh(lambda x: x + 1, [jax.numpy.ones(2)], {}).tolist()
  [2.0, 2.0]
  """
  arrays = [x for x in jax.tree.leaves((args, kwargs)) if _is_array(x)]
  context = get_abstract_mesh()
  meshes = [mesh for mesh in map(_mesh, arrays) if _explicit(mesh)]
  if not meshes and not _explicit(context):
    return function(*args, **kwargs)
  mesh = (meshes or [context])[0]
  specs = {x.shape: _spec(x) for x in arrays if any(_spec(x))}
  # Outside jit, arrays are placed on devices, which only their mesh knows.
  devices = next((m for m in map(_devices, arrays) if m is not None), mesh)
  auto = mesh.update_axis_types(dict.fromkeys(_explicit(mesh), AxisType.Auto))

  def enter(value: Any) -> Any:
    """Makes the axes Auto in what the function takes."""
    if _is_array(value):
      on_mesh = _explicit(_mesh(value))
      return reshard(value, PartitionSpec()) if on_mesh else value
    return outside(value) if callable(value) else value

  def leave(value: Any) -> Any:
    """Makes the axes Explicit in what the function returns."""
    if not _is_array(value):
      return value
    return reshard(value, NamedSharding(devices, _find(value.shape, specs)))

  def outside(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Calls a function of the user, whose closure may have arrays."""

    @functools.wraps(callback)
    def call_outside(*values: Any, **named: Any) -> Any:
      values, named = jax.tree.map(leave, (values, named))
      with use_abstract_mesh(context):
        result = callback(*values, **named)
      return jax.tree.map(enter, result)

    return call_outside

  with use_abstract_mesh(auto):
    args, kwargs = jax.tree.map(enter, (args, kwargs))
    result = function(*args, **kwargs)
  return jax.tree.map(leave, result)


def _is_array(value: Any) -> bool:
  return isinstance(value, jax.Array)


def _mesh(array: jax.Array) -> AbstractMesh:
  return jax.typeof(array).sharding.mesh


def _spec(array: jax.Array) -> PartitionSpec:
  return jax.typeof(array).sharding.spec


def _devices(array: jax.Array) -> Mesh | AbstractMesh | None:
  """Returns the mesh of devices that an array is on, unless it is traced."""
  if is_concrete(array) and isinstance(array.sharding, NamedSharding):
    return array.sharding.mesh if _explicit(_mesh(array)) else None
  return None


def _explicit(mesh: AbstractMesh) -> list[str]:
  """Returns the names of the Explicit axes of a mesh."""
  types = zip(mesh.axis_names, mesh.axis_types, strict=True)
  return [name for name, kind in types if kind == AxisType.Explicit]


def _find(shape: tuple[int, ...], specs: Specs) -> PartitionSpec:
  """Returns the sharding of a result."""
  if shape in specs:
    return specs[shape]
  for known, spec in specs.items():
    if spec[0] and known[:1] == shape[:1]:
      return PartitionSpec(spec[0])
  return PartitionSpec()
