"""Mesh of devices, and the shardings of arrays on it."""

import importlib.util
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def expects_cpu() -> bool:
  """Returns whether jax will use CPUs, without initializing devices."""
  chosen = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
  if chosen:
    return chosen.split(',')[0] == 'cpu'
  plugins = ('jax_plugins', 'libtpu')
  return not any(importlib.util.find_spec(name) for name in plugins)


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
  """Returns a mesh with the one axis 'data' over `devices` (default: all).

  The devices of a process are adjacent, and so are its examples in a batch.
  """
  devices = jax.devices() if devices is None else devices
  devices = sorted(
    devices, key=lambda device: (device.process_index, device.id)
  )
  return Mesh(np.array(devices), ('data',), axis_types=(AxisType.Auto,))


def can_run(mesh: Mesh) -> bool:
  """Returns whether a mesh has devices, and not only a description of them."""
  return bool(mesh.devices.flat[0].client.local_devices())


def on_cpu(mesh: Mesh) -> bool:
  """Returns whether the devices of a mesh are CPUs."""
  return mesh.devices.flat[0].platform == 'cpu'


def replicated(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array that is replicated on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batch_sharded(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of one batch `[B, ...]` over the devices."""
  return NamedSharding(mesh, PartitionSpec('data'))


def chunk_sharded(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of a chunk of K batches `[K, B, ...]`."""
  return NamedSharding(mesh, PartitionSpec(None, 'data'))


def device_put_global(tree: Any, sharding: NamedSharding) -> Any:
  """Puts host arrays, equal in all processes, on the devices.

  `jax.device_put` would first compare the arrays of all processes.
  """

  def put(array):
    if sharding.is_fully_addressable:
      return jax.device_put(array, sharding)
    with jax.transfer_guard('allow'):  # jax counts this as implicit.
      return jax.make_array_from_callback(
        np.shape(array), sharding, lambda part: np.asarray(array)[part]
      )

  return jax.tree.map(put, tree)
