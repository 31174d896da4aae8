"""Collectives on row-sharded arrays, for use within `jax.shard_map`.

The rows of a global array are sharded over one mesh axis, evenly and in order:
with m rows per device, row r is row r % m of device r // m.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


def ring_search(axis: str) -> Callable[..., Any]:
  """Returns a search of sharded candidates, for `mining.select(search=...)`.

  The shards rotate around the ring of devices. A device holds two shards at a
  time, the one that it searches and the next one in transit, and keeps the
  nearest candidates so far. The result equals a search of the global array.

  Args:
    axis: the mesh axis over which the candidates are sharded.

  Examples:
    >>> from jax.sharding import Mesh, PartitionSpec as P
    >>> from jaxretrieval.mining import Items, select
    >>> mesh = Mesh(jax.devices()[:1], 'data')
    >>> @jax.jit
    ... @functools.partial(jax.shard_map, mesh=mesh, in_specs=P('data'),
    ...                    out_specs=P('data'))
    ... def pick(bits, images):
    ...   return select(bits, images, images, search=ring_search('data')).index
    >>> images = Items(jnp.array([[0.0], [1.0], [5.0]]), jnp.arange(3))
    >>> pick(jnp.zeros(3, jnp.uint32), images)
    Array([1, 0, 1], dtype=int32)
  """

  def search(nearest: Any, shard: Any, count: int) -> list[Any]:
    devices, rows = lax.axis_size(axis), len(shard.features)
    count = min(count, devices * rows)
    to_next = [(i, (i + 1) % devices) for i in range(devices)]

    def merge(best, shard, step):
      owner = (lax.axis_index(axis) - step) % devices
      merged = jax.tree.map(
        lambda *x: jnp.concatenate(x, axis=1),
        best,
        nearest(shard, owner * rows),
      )
      # Each device sees the shards in another order. Sorting by value and then
      # by index makes the lower row win a tie on all of them.
      merged = [lax.sort(pair, dimension=1, num_keys=2) for pair in merged]
      return [(values[:, :count], index[:, :count]) for values, index in merged]

    def step(state, number):
      best, shard = state
      following = lax.ppermute(shard, axis, to_next)
      return (merge(best, shard, number), following), None

    # The initial values are infinite. `nearest` gives their shapes only; XLA
    # removes its computation.
    best = [
      (
        jnp.full_like(values, math.inf, shape=(len(values), count)),
        jnp.zeros_like(index, shape=(len(index), count)),
      )
      for values, index in nearest(shard, 0)
    ]
    (best, shard), _ = lax.scan(step, (best, shard), jnp.arange(devices - 1))
    return merge(best, shard, devices - 1)

  return search


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def gather_rows(rows: jax.Array, index: jax.Array, axis: str) -> jax.Array:
  """Returns rows of the global array, whichever devices hold them.

  Each device receives every row that it requests once, also if it requests the
  row several times; gradients take the reverse path. All pairs of devices
  exchange messages of one fixed size, which suffices for nearly every shuffled
  batch. If a device requests more rows than that from another one, all devices
  run further rounds.

  Args:
    rows: the rows of this device `[m, D]`.
    index: int32 `[B]`, rows of the global array.
    axis: the mesh axis over which the rows are sharded.

  Returns:
    `[B, D]`.

  Examples:
    >>> from jax.sharding import Mesh, PartitionSpec as P
    >>> mesh = Mesh(jax.devices()[:1], 'data')
    >>> @jax.jit
    ... @functools.partial(jax.shard_map, mesh=mesh, in_specs=P('data'),
    ...                    out_specs=P('data'))
    ... def reverse(rows):
    ...   return gather_rows(rows, jnp.array([2, 1, 0]), 'data')
    >>> reverse(jnp.array([[0.0], [1.0], [5.0]])).ravel()
    Array([5., 1., 0.], dtype=float32)
  """
  plan = _make_plan(rows, index, axis)

  def fetch(number, gathered):
    sent = rows[plan.requested[:, number]]
    received = lax.all_to_all(sent, axis, 0, 0)
    in_round = (plan.round == number)[:, None]
    return jnp.where(in_round, received[plan.owner, plan.slot], gathered)

  gathered = jnp.zeros_like(rows, shape=(len(index), *rows.shape[1:]))
  return lax.fori_loop(0, plan.rounds, fetch, gathered)


class _Plan(NamedTuple):
  """Schedule of an exchange: N devices, at most R rounds, C rows a message.

  Attributes:
    requested: int32 `[N, R, C]`, the rows of this device that each device
      requests in each round, padded with row 0.
    rounds: number of rounds that are needed, the same on all devices.
    owner: int32 `[B]`, the device that holds each row that this one requests.
    round: int32 `[B]`, the round in which the row arrives.
    slot: int32 `[B]`, its position in the message.
  """

  requested: jax.Array
  rounds: jax.Array
  owner: jax.Array
  round: jax.Array
  slot: jax.Array


def _make_plan(rows, index, axis) -> _Plan:
  devices, size = lax.axis_size(axis), len(rows)
  # Of B rows chosen at random, a device holds B / N on average, with a standard
  # deviation of about the square root of that: six of them are added.
  mean = len(index) / devices
  most = min(len(index), size)
  width = min(most, math.ceil(mean + 6 * math.sqrt(mean)))
  owner, row = jnp.divmod(index, size)
  wanted = jnp.zeros((devices, size), jnp.int32).at[owner, row].set(1)
  number, slot = jnp.divmod(jnp.cumsum(wanted, axis=1)[owner, row] - 1, width)
  requested = jnp.zeros((devices, -(-most // width), width), jnp.int32)
  requested = requested.at[owner, number, slot].set(row)
  return _Plan(
    requested=lax.all_to_all(requested, axis, 0, 0),
    rounds=lax.pmax(jnp.max(number) + 1, axis),
    owner=owner,
    round=number,
    slot=slot,
  )


def _gather_forward(rows, index, axis):
  return gather_rows(rows, index, axis), (rows, index)


def _gather_backward(axis, residuals, cotangent):
  rows, index = residuals
  plan = _make_plan(rows, index, axis)
  shape = (lax.axis_size(axis), plan.requested.shape[2], *rows.shape[1:])

  def send_back(number, total):
    # A slot beyond the end drops the rows of other rounds.
    slot = jnp.where(plan.round == number, plan.slot, shape[1])
    sent = jnp.zeros_like(cotangent, shape=shape)
    sent = sent.at[plan.owner, slot].add(cotangent)
    received = lax.all_to_all(sent, axis, 0, 0)
    return total.at[plan.requested[:, number]].add(received)

  return lax.fori_loop(0, plan.rounds, send_back, jnp.zeros_like(rows)), None


gather_rows.defvjp(_gather_forward, _gather_backward)
