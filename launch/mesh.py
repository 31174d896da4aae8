"""Devices and how arrays lie on them; the one place where meshes are made."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def expects_cpu() -> bool:
  """Says whether the devices will be CPUs, without starting them."""
  chosen = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
  if chosen:
    return chosen.split(',')[0] == 'cpu'
  plugins = ('jax_plugins', 'libtpu')
  return not any(importlib.util.find_spec(name) for name in plugins)


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
  """Returns a mesh with the one axis 'data' over `devices` (default: all)."""
  devices = jax.devices() if devices is None else devices
  # Auto axes (the default is Explicit), and positionally: the name of the
  # first argument changes between versions of jax.
  return jax.make_mesh(
    (len(devices),), ('data',), axis_types=(AxisType.Auto,), devices=devices
  )


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that every device holds whole."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of one batch `[B, ...]` over the devices."""
  return NamedSharding(mesh, PartitionSpec('data'))


def block_sharded(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of K stacked batches `[K, B, ...]`."""
  return NamedSharding(mesh, PartitionSpec(None, 'data'))


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
  """Raises ValueError where the devices cannot share a batch equally."""
  if batch_size % mesh.size:
    raise ValueError(
      f'config.batch_size={batch_size} must be a multiple of the number of '
      f'devices ({mesh.size})'
    )
