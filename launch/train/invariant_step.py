"""Invariant training step: bitwise-identical results on any number of devices.

XLA compiles a step for its number of devices, and floating-point sums differ
between these programs. Here a batch is split over V virtual devices. One
program, compiled for a single device, computes the gradient of a virtual
device, on whichever device holds its examples. The V gradients are added in
pairs, in a tree that depends on V alone. One more program for a single device
computes the update, on every device.

The price is V smaller programs in a step instead of a large one: docs/pods.md.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from launch.mesh import batch_sharded, on_cpu, replicated
from launch.task import Loss, PyTree
from launch.train.feeds import Feed
from launch.train.state import TrainState
from launch.train.step import (
  TrainSteps,
  cpu_options,
  make_update,
  stack_metrics,
  unstack_chunk,
)


def make_invariant_steps(
  loss: Loss,
  optimizer: optax.GradientTransformationExtraArgs,
  learning_rate: optax.Schedule,
  feed: Feed,
  mesh: Mesh,
  *,
  virtual_devices: int,
  max_skipped: int = 0,
) -> TrainSteps:
  """Returns `train_steps` like `launch.train.step.make_train_steps`.

  Its results are bitwise identical on any number of devices.

  Args:
    loss: the task's loss of one virtual device, made for the mesh None. Its
      batch has the index of the virtual device, an int32 scalar, under
      'virtual_device', and, if the examples are arrays on the device, the whole
      batch under 'whole'.
    optimizer: see `make_train_steps`.
    learning_rate: see `make_train_steps`.
    feed: the batches; the chunks of a resident feed must be replicated.
    mesh: the devices; each computes adjacent virtual devices.
    virtual_devices: V, a power of two and a multiple of the number of devices;
      each has B / V examples of a batch.
    max_skipped: see `make_train_steps`.
  """
  per_device = virtual_devices // mesh.size
  examples = feed.schedule.batch_size // virtual_devices
  local = [
    (position, device)
    for position, device in enumerate(mesh.devices.flat)
    if device.process_index == jax.process_index()
  ]
  devices = [device for _, device in local]
  gradient = jax.value_and_grad(loss, has_aux=True)
  update = make_update(optimizer, learning_rate, max_skipped=max_skipped)
  options: Any = cpu_options() if on_cpu(mesh) else None
  # The structure of the results, known once the program is traced.
  structure: dict[str, Any] = {}

  def virtual_gradient(state, data, item, key, first, index):
    own = jax.tree.map(
      lambda x: jax.lax.dynamic_slice_in_dim(x, first, examples), item
    )
    batch = {**feed.select(data, own), 'virtual_device': index}
    if data:
      batch |= {'resident': data, 'whole': feed.select(data, item)}
    key = jax.random.fold_in(jax.random.wrap_key_data(key), state.step)
    results = gradient(state.params, state.model_state, batch, key)
    (_, (_, metrics)), _ = results
    for name, value in metrics.items():
      if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
          f'the loss of config.task returns the metric {name!r} as '
          f'{value.dtype}. With config.device_count_invariant=True it must be '
          'the mean of floating-point numbers over the examples, because the '
          'mean over the virtual devices is taken'
        )
    return _pack(results, structure)

  def apply(state, total, rest):
    return update(state, *_unpack(total / virtual_devices, rest, structure))

  def add_over_devices(total):
    # The upper levels of the tree: at each, pairs of devices add their sums.
    for level in range(mesh.size.bit_length() - 1):
      pairs = [(i, i ^ (1 << level)) for i in range(mesh.size)]
      total = total + jax.lax.ppermute(total, 'data', pairs)
    return total

  by_device = PartitionSpec('data')
  all_reduce = jax.jit(
    jax.shard_map(
      add_over_devices, mesh=mesh, in_specs=by_device, out_specs=by_device
    ),
    donate_argnums=0,
  )
  virtual_gradient = jax.jit(virtual_gradient, compiler_options=options)
  add = jax.jit(jnp.add, donate_argnums=0)
  apply = jax.jit(apply, donate_argnums=0, compiler_options=options)
  unstack, stack = jax.jit(unstack_chunk), jax.jit(stack_metrics)
  # Indices are those of the whole batch; a streamed chunk has the examples of
  # its own device alone.
  positions = [
    _positions(position, device, per_device, examples, bool(feed.data))
    for position, device in local
  ]

  def train_step(states, data, items, keys):
    parts, rests = [], []
    for state, datum, item, key, own in zip(
      states, data, items, keys, positions, strict=True
    ):
      results = [
        virtual_gradient(state, datum, item, key, *pair) for pair in own
      ]
      parts.append([packed for packed, _ in results])
      rests.append(results[0][1])
    sums = [_add_pairwise(add, part) for part in parts]
    if mesh.size > 1:
      sums = _per_device(all_reduce(_join(sums, mesh)), devices)
    stepped = [
      apply(*arguments) for arguments in zip(states, sums, rests, strict=True)
    ]
    return [state for state, _ in stepped], stepped[0][1]

  def train_steps(state, data, chunk, key):
    states, data = _per_device(state, devices), _per_device(data, devices)
    keys = _per_device(jax.random.key_data(key), devices)
    items = [unstack(part) for part in _per_device(chunk, devices)]
    metrics = []
    for step in zip(*items, strict=True):
      states, step_metrics = train_step(states, data, step, keys)
      metrics.append(step_metrics)
    return _replicate(states, mesh), stack(metrics)

  return train_steps


def _pack(
  tree: PyTree, structure: dict[str, Any]
) -> tuple[jax.Array, list[Any]]:
  """Returns the floating-point leaves as one float32 vector, and the others.

  Other leaves of the model state, such as a count of steps, must be the same in
  every virtual device.
  """
  leaves, structure['tree'] = jax.tree.flatten(tree)
  structure['leaves'] = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves]
  added = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
  rest = [x for x in leaves if not jnp.issubdtype(x.dtype, jnp.floating)]
  return jnp.concatenate([x.ravel().astype(jnp.float32) for x in added]), rest


def _unpack(
  vector: jax.Array, rest: list[Any], structure: Mapping[str, Any]
) -> Any:
  """Returns the tree that `_pack` took apart."""
  others, start, leaves = iter(rest), 0, []
  for like in structure['leaves']:
    if jnp.issubdtype(like.dtype, jnp.floating):
      part = vector[start : start + like.size]
      leaves.append(part.reshape(like.shape).astype(like.dtype))
      start += like.size
    else:
      leaves.append(next(others))
  return jax.tree.unflatten(structure['tree'], leaves)


def _add_pairwise(
  add: Callable[..., jax.Array], parts: list[jax.Array]
) -> jax.Array:
  """Returns the sum of 2^n parts, added in a binary tree, neighbours first."""
  while len(parts) > 1:
    parts = [
      add(one, other)
      for one, other in zip(parts[::2], parts[1::2], strict=True)
    ]
  return parts[0]


def _positions(
  position: int, device: Any, per_device: int, examples: int, resident: bool
) -> list[tuple[jax.Array, jax.Array]]:
  """Returns `(first example, index)` of each virtual device on a device."""
  indices = range(position * per_device, (position + 1) * per_device)
  origin = 0 if resident else indices.start
  pairs = [(np.int32((i - origin) * examples), np.int32(i)) for i in indices]
  return jax.device_put(pairs, device)


def _per_device(tree: PyTree, devices: Sequence[Any]) -> list[PyTree]:
  """Returns for each device its part of a tree of global arrays."""
  leaves, treedef = jax.tree.flatten(tree)
  parts = [
    {x.device: x.data for x in leaf.addressable_shards} for leaf in leaves
  ]
  return [treedef.unflatten([part[x] for part in parts]) for x in devices]


def _join(sums: list[jax.Array], mesh: Mesh) -> jax.Array:
  """Returns the sums of all devices as one global array."""
  shape = (mesh.size * len(sums[0]),)
  return jax.make_array_from_single_device_arrays(
    shape, batch_sharded(mesh), sums
  )


def _replicate(states: list[TrainState], mesh: Mesh) -> TrainState:
  """Returns the equal states of all devices as one replicated state."""
  return jax.tree.map(
    lambda *x: jax.make_array_from_single_device_arrays(
      x[0].shape, replicated(mesh), list(x)
    ),
    *states,
  )
