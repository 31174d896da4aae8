"""Rows that devices give each other; for use within `jax.shard_map`.

The rows of a whole array are split over an axis of the mesh, evenly and in
order: row r is row r % m of device r // m.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


def ring(axis: str) -> Callable[..., Any]:
  """How `mining.select` picks from a gallery whose parts go round the devices.

  A device has two parts at a time, the one it looks at and the next on its way,
  and keeps the best items so far. The picks are those from the whole.

  Args:
    axis: the rows of the gallery are split over it.

  Examples:
    >>> from jax.sharding import Mesh, PartitionSpec as P
    >>> from jaxretrieval.mining import Items, select
    >>> mesh = Mesh(jax.devices()[:1], 'data')
    >>> @jax.jit
    ... @functools.partial(jax.shard_map, mesh=mesh, in_specs=P('data'),
    ...                    out_specs=P('data'))
    ... def pick(bits, images):
    ...   return select(bits, images, images, visit=ring('data')).index
    >>> images = Items(jnp.array([[0.0], [1.0], [5.0]]), jnp.arange(3))
    >>> pick(jnp.zeros(3, jnp.uint32), images)
    Array([1, 0, 1], dtype=int32)
  """

  def visit(nearest: Any, part: Any, last: int) -> list[Any]:
    devices, rows = lax.axis_size(axis), len(part.features)
    last = min(last, devices * rows)
    to_next = [(i, (i + 1) % devices) for i in range(devices)]

    def add(best, part, step):
      owner = (lax.axis_index(axis) - step) % devices
      both = jax.tree.map(
        lambda *x: jnp.concatenate(x, axis=1), best, nearest(part, owner * rows)
      )
      # Parts come in another order on each device: of equal values the lower
      # row is first, whichever came first.
      both = [lax.sort(pair, dimension=1, num_keys=2) for pair in both]
      return [(values[:, :last], index[:, :last]) for values, index in both]

    def step(state, number):
      best, part = state
      following = lax.ppermute(part, axis, to_next)
      return (add(best, part, number), following), None

    # Nothing yet: of infinite value. What gives the shapes is not computed.
    best = [
      (
        jnp.full_like(values, math.inf, shape=(len(values), last)),
        jnp.zeros_like(index, shape=(len(index), last)),
      )
      for values, index in nearest(part, 0)
    ]
    (best, part), _ = lax.scan(step, (best, part), jnp.arange(devices - 1))
    return add(best, part, devices - 1)

  return visit


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def take(rows: jax.Array, index: jax.Array, axis: str) -> jax.Array:
  """Returns rows of the whole array, whichever devices have them.

  What a device asks for is sent to it, once where it asks several times, and
  the gradient goes the same way back. All send each other the same number of
  rows, which is enough for nearly every batch in random order; where a device
  wants more of one other's, all go further rounds.

  Args:
    rows: the rows of this device `[m, D]`.
    index: int32 `[B]`, rows of the whole.
    axis: the rows are split over it.

  Returns:
    `[B, D]`.

  Examples:
    >>> from jax.sharding import Mesh, PartitionSpec as P
    >>> mesh = Mesh(jax.devices()[:1], 'data')
    >>> @jax.jit
    ... @functools.partial(jax.shard_map, mesh=mesh, in_specs=P('data'),
    ...                    out_specs=P('data'))
    ... def reverse(rows):
    ...   return take(rows, jnp.array([2, 1, 0]), 'data')
    >>> reverse(jnp.array([[0.0], [1.0], [5.0]])).ravel()
    Array([5., 1., 0.], dtype=float32)
  """
  plan = _make_plan(rows, index, axis)

  def fetch(number, found):
    sent = rows[plan.asked[:, number]]
    arrived = lax.all_to_all(sent, axis, 0, 0)
    here = (plan.round == number)[:, None]
    return jnp.where(here, arrived[plan.owner, plan.place], found)

  found = jnp.zeros_like(rows, shape=(len(index), *rows.shape[1:]))
  return lax.fori_loop(0, plan.rounds, fetch, found)


class _Plan(NamedTuple):
  """Who sends what when.

  Attributes:
    asked: int32 `[N, R, C]`, the rows of this device that each device asks for
      in each round; row 0 where that is fewer than C.
    rounds: how many are needed, the same on all devices.
    owner: int32 `[B]`, who has each row that this device asks for.
    round: int32 `[B]`, when it comes.
    place: int32 `[B]`, at which place of the C.
  """

  asked: jax.Array
  rounds: jax.Array
  owner: jax.Array
  round: jax.Array
  place: jax.Array


def _make_plan(rows, index, axis) -> _Plan:
  devices, size = lax.axis_size(axis), len(rows)
  # Of B rows that are spread at random B / N are one device's, give or take
  # the root of it.
  mean = len(index) / devices
  most = min(len(index), size)
  width = min(most, math.ceil(mean + 6 * math.sqrt(mean)))
  owner, row = jnp.divmod(index, size)
  wanted = jnp.zeros((devices, size), jnp.int32).at[owner, row].set(1)
  number, place = jnp.divmod(jnp.cumsum(wanted, axis=1)[owner, row] - 1, width)
  asked = jnp.zeros((devices, -(-most // width), width), jnp.int32)
  asked = asked.at[owner, number, place].set(row)
  return _Plan(
    asked=lax.all_to_all(asked, axis, 0, 0),
    rounds=lax.pmax(jnp.max(number) + 1, axis),
    owner=owner,
    round=number,
    place=place,
  )


def _take_forward(rows, index, axis):
  return take(rows, index, axis), (rows, index)


def _take_backward(axis, saved, slope):
  rows, index = saved
  plan = _make_plan(rows, index, axis)
  shape = (lax.axis_size(axis), plan.asked.shape[2], *rows.shape[1:])

  def give_back(number, total):
    # What is not of this round is put beyond the end, which drops it.
    place = jnp.where(plan.round == number, plan.place, shape[1])
    sent = jnp.zeros_like(slope, shape=shape).at[plan.owner, place].add(slope)
    arrived = lax.all_to_all(sent, axis, 0, 0)
    return total.at[plan.asked[:, number]].add(arrived)

  return lax.fori_loop(0, plan.rounds, give_back, jnp.zeros_like(rows)), None


take.defvjp(_take_forward, _take_backward)
