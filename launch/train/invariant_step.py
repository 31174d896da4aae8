"""Training steps of the same bits on any number of devices.

XLA compiles a step for its number of devices, and sums of floating point come
out otherwise in each. Here a batch is V virtual devices. One program, compiled
for one device, gives the gradient of a shard, whichever device has it; the V
gradients are added two by two in a tree that depends on V alone; and one
program for one device makes the update, on each of them.

The price is V smaller programs for a step in place of one large: docs/pods.md.
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
from launch.train.step import TrainSteps, cpu_options, make_update


def check_virtual_devices(shards: int, mesh: Mesh) -> None:
  """Raises ValueError where the devices cannot share the shards."""
  if shards & (shards - 1) or shards % mesh.size:
    raise ValueError(
      f'config.virtual_devices={shards}: with config.device_count_invariant=True it '
      f'must be a power of two and a multiple of the number of devices '
      f'({mesh.size})'
    )


def make_invariant_steps(
  loss: Loss,
  optimizer: optax.GradientTransformationExtraArgs,
  schedule: optax.Schedule,
  feed: Feed,
  mesh: Mesh,
  *,
  batch_size: int,
  shards: int,
  max_skipped: int = 0,
) -> TrainSteps:
  """Returns `launch.train.step.make_train_steps`, with the same bits anywhere.

  Args:
    loss: that of one shard, made with the mesh None. Its batch has under
      'shard' the number of the shard, an int32 scalar, and, where the data lie
      on the devices, all rows of the step under 'whole'.
    optimizer: as there.
    schedule: as there.
    feed: gives the batches; blocks of the resident one lie everywhere.
    mesh: the devices; each takes shards that lie side by side.
    batch_size: B; a shard has B / V examples.
    shards: V, a power of two, see `check_shards`.
    max_skipped: as there.

  Raises:
    ValueError: the devices cannot share the shards.
  """
  check_virtual_devices(shards, mesh)
  each, rows = shards // mesh.size, batch_size // shards
  places = [
    (position, device)
    for position, device in enumerate(mesh.devices.flat)
    if device.process_index == jax.process_index()
  ]
  devices = [device for _, device in places]
  gradient = jax.value_and_grad(loss, has_aux=True)
  update = make_update(optimizer, schedule, max_skipped=max_skipped)
  options: Any = cpu_options() if on_cpu(mesh) else None
  # Which leaves of what a shard gives are added, known once it is traced.
  form: dict[str, Any] = {}

  def of_shard(state, data, item, key, first, number):
    own = jax.tree.map(
      lambda x: jax.lax.dynamic_slice_in_dim(x, first, rows), item
    )
    batch = {**feed.select(data, own), 'shard': number}
    if data:
      batch |= {'resident': data, 'whole': feed.select(data, item)}
    key = jax.random.fold_in(jax.random.wrap_key_data(key), state.step)
    found = gradient(state.params, state.model_state, batch, key)
    (_, (_, metrics)), _ = found
    for name, value in metrics.items():
      if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
          f'the metric {name!r} of config.task is {value.dtype}: with '
          'config.device_count_invariant=True it must be the mean of floating point '
          'numbers over the rows, of which the mean over shards is taken'
        )
    return _pack(found, form)

  def apply(state, total, rest):
    found = _unpack(total / shards, rest, form)
    return update(state, *found)

  def over_devices(total):
    # The upper levels of the tree: at each, devices add up what two have.
    for level in range(mesh.size.bit_length() - 1):
      pairs = [(i, i ^ (1 << level)) for i in range(mesh.size)]
      total = total + jax.lax.ppermute(total, 'data', pairs)
    return total

  by_device = PartitionSpec('data')
  exchange = jax.jit(
    jax.shard_map(
      over_devices, mesh=mesh, in_specs=by_device, out_specs=by_device
    ),
    donate_argnums=0,
  )
  of_shard = jax.jit(of_shard, compiler_options=options)
  add = jax.jit(jnp.add, donate_argnums=0)
  apply = jax.jit(apply, donate_argnums=0, compiler_options=options)
  unstack = jax.jit(_unstack)
  stack = jax.jit(lambda rows: jax.tree.map(lambda *x: jnp.stack(x), *rows))
  numbers = [_numbers(p, device, each, rows, feed) for p, device in places]

  def train_step(states, data, items, keys):
    parts, rests = [], []
    for state, datum, item, key, own in zip(
      states, data, items, keys, numbers, strict=True
    ):
      found = [of_shard(state, datum, item, key, *pair) for pair in own]
      parts.append([part for part, _ in found])
      rests.append(found[0][1])
    totals = [_add_up(add, part) for part in parts]
    if mesh.size > 1:
      totals = _each(exchange(_joined(totals, mesh)), devices)
    stepped = [
      apply(*arguments) for arguments in zip(states, totals, rests, strict=True)
    ]
    return [state for state, _ in stepped], stepped[0][1]

  def train_steps(state, data, block, key):
    states, data = _each(state, devices), _each(data, devices)
    keys = _each(jax.random.key_data(key), devices)
    items = [unstack(part) for part in _each(block, devices)]
    metrics = []
    for step in zip(*items, strict=True):
      states, row = train_step(states, data, step, keys)
      metrics.append(row)
    return _everywhere(states, mesh), stack(metrics)

  return train_steps


def _pack(tree: PyTree, form: dict[str, Any]) -> tuple[jax.Array, list[Any]]:
  """Numbers to be added, as one float32 vector; and the other leaves.

  What of the model state is no floating point, such as a count of steps, must
  be the same of every shard.
  """
  leaves, form['tree'] = jax.tree.flatten(tree)
  form['leaves'] = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves]
  added = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
  rest = [x for x in leaves if not jnp.issubdtype(x.dtype, jnp.floating)]
  return jnp.concatenate([x.ravel().astype(jnp.float32) for x in added]), rest


def _unpack(vector: jax.Array, rest: list[Any], form: Mapping[str, Any]) -> Any:
  others, start, leaves = iter(rest), 0, []
  for like in form['leaves']:
    if jnp.issubdtype(like.dtype, jnp.floating):
      part = vector[start : start + like.size]
      leaves.append(part.reshape(like.shape).astype(like.dtype))
      start += like.size
    else:
      leaves.append(next(others))
  return jax.tree.unflatten(form['tree'], leaves)


def _add_up(add: Callable[..., jax.Array], parts: list[jax.Array]) -> jax.Array:
  """Adds two by two; neighbours first."""
  while len(parts) > 1:
    parts = [
      add(one, other)
      for one, other in zip(parts[::2], parts[1::2], strict=True)
    ]
  return parts[0]


def _numbers(
  position: int, device: Any, each: int, rows: int, feed: Feed
) -> list[tuple[jax.Array, jax.Array]]:
  """Of each shard of a device its first row in the block, and its number."""
  shards = range(position * each, (position + 1) * each)
  # Indices are of the whole batch; what is streamed is of this device alone.
  origin = 0 if feed.data else position * each
  pairs = [
    (np.int32((shard - origin) * rows), np.int32(shard)) for shard in shards
  ]
  return jax.device_put(pairs, device)


def _unstack(block: PyTree) -> list[PyTree]:
  count = len(jax.tree.leaves(block)[0])
  return [jax.tree.map(lambda x, i=i: x[i], block) for i in range(count)]


def _each(tree: PyTree, devices: Sequence[Any]) -> list[PyTree]:
  """What each of these devices has of global arrays."""
  leaves, form = jax.tree.flatten(tree)
  parts = [
    {x.device: x.data for x in leaf.addressable_shards} for leaf in leaves
  ]
  return [form.unflatten([part[x] for part in parts]) for x in devices]


def _joined(totals: list[jax.Array], mesh: Mesh) -> jax.Array:
  shape = (mesh.size * len(totals[0]),)
  return jax.make_array_from_single_device_arrays(
    shape, batch_sharded(mesh), totals
  )


def _everywhere(states: list[TrainState], mesh: Mesh) -> TrainState:
  return jax.tree.map(
    lambda *x: jax.make_array_from_single_device_arrays(
      x[0].shape, replicated(mesh), list(x)
    ),
    *states,
  )
