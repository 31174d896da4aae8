import types

import jax
import pytest
from jax.sharding import AxisType, PartitionSpec

from launch import mesh
from launch.mesh import (
  batch_sharded,
  chunk_sharded,
  expects_cpu,
  make_mesh,
  replicated,
)


def test_the_mesh_has_one_automatic_axis_over_all_devices():
  mesh = make_mesh()
  assert mesh.axis_names == ('data',)
  assert mesh.size == jax.device_count()
  assert mesh.axis_types == (AxisType.Auto,), 'Explicit axes break gathers'
  assert make_mesh(jax.devices()[:1]).size == 1


@pytest.mark.parametrize(
  'platforms, expected',
  [('cpu', True), ('cpu,cuda', True), ('cuda,cpu', False)],
)
def test_what_was_chosen_is_expected(platforms, expected, monkeypatch):
  config = types.SimpleNamespace(jax_platforms=platforms)
  monkeypatch.setattr(mesh, 'jax', types.SimpleNamespace(config=config))
  assert expects_cpu() == expected


def test_shardings():
  mesh = make_mesh()
  assert replicated(mesh).is_fully_replicated
  assert batch_sharded(mesh).spec == PartitionSpec('data')
  assert chunk_sharded(mesh).spec == PartitionSpec(None, 'data')
