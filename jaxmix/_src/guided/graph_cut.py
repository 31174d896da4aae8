"""Graph cut: ordered labels on a grid, solved by a primal-dual iteration.

Each of `n x n` blocks gets one of `L` labels 0..L-1, with z = label / (L - 1),
such that

    sum_b unary[b, label_b] + sum_(a,b) weight[a,b] (z_a - z_b)^2

over neighbours (a, b) is small: Puzzle Mix, equation (5). The published code
solves it by alpha-beta swaps on the host. With two labels it is a minimal cut,
with three a minimal cut of a graph with two nodes per block (Ishikawa, PAMI
2003). A minimal cut is a convex problem, which the iteration of Chambolle and
Pock (JMIV 2011; step sizes as in Pock and Chambolle, ICCV 2011) solves for a
whole batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

# With these the mean energy is within 1e-4 of the optimum for grids of up to
# 16 x 16 (tests/jaxmix/guided/graph_cut_test.py).
_STEPS = 100
_LEVELS = (0.2, 0.35, 0.5, 0.65, 0.8)
_SWEEPS = 3


class Costs(NamedTuple):
  """The costs of labels.

  Attributes:
    unary: float32 `[B, n, n, L]`, the cost of each label; L is 2 or 3.
    down: float32 `[B, n - 1, n]`, 0 or more, the weight of the pair of a block
      and the one below.
    right: float32 `[B, n, n - 1]`, 0 or more, the weight of the pair of a block
      and the one to its right.
  """

  unary: jax.Array
  down: jax.Array
  right: jax.Array


def energy(costs: Costs, labels: jax.Array) -> jax.Array:
  """Returns the sum above: float32 `[B]` for int32 labels `[B, n, n]`.

  >>> costs = Costs(jnp.zeros((1, 1, 2, 2)), jnp.zeros((1, 0, 2)),
  ...               jnp.array([[[3.0]]]))
  >>> energy(costs, jnp.array([[[0, 1]]])).tolist()
  [3.0]
  """
  unary, down, right = costs
  z = labels / (unary.shape[-1] - 1)
  own = jnp.take_along_axis(unary, labels[..., None], axis=-1)
  return (
    jnp.sum(own, axis=(1, 2, 3))
    + jnp.sum(down * jnp.square(jnp.diff(z, axis=1)), axis=(1, 2))
    + jnp.sum(right * jnp.square(jnp.diff(z, axis=2)), axis=(1, 2))
  )


@jax.jit  # without it, an eager call would compile the loops every time
def cut(costs: Costs) -> jax.Array:
  """Finds labels of low energy, in most cases the optimum: int32 `[B, n, n]`.

  The relaxed problem is solved by a hundred primal-dual steps. Its solution is
  rounded at several levels and the best result is kept. Three sweeps, in which
  each block takes its best label, repair errors of the rounding.

  >>> costs = Costs(jnp.array([[[[0.0, 1.0], [0.4, 0.0]]]]),
  ...               jnp.zeros((1, 0, 2)), jnp.array([[[0.5]]]))
  >>> cut(costs).tolist()
  [[[0, 0]]]
  """
  relaxed = _relax(costs)
  rounded = [jnp.sum(relaxed > level, axis=-1) for level in _LEVELS]
  # With very expensive borders the steps are slow and the optimum has none.
  plain = [jnp.full_like(rounded[0], x) for x in range(costs.unary.shape[-1])]
  candidates = jnp.stack([*rounded, *plain], axis=1)
  least = jnp.argmin(
    jax.vmap(energy, in_axes=(None, 1), out_axes=1)(costs, candidates), axis=1
  )
  best = jnp.take_along_axis(candidates, least[:, None, None, None], axis=1)
  best = best[:, 0].astype(jnp.int32)
  return jax.lax.fori_loop(0, _SWEEPS, lambda _, x: _sweep(costs, x), best)


def _relax(costs: Costs) -> jax.Array:
  """Solves the relaxed problem: `[B, n, n, m]` in [0, 1].

  Entry k is the relaxed indicator t_k that the label is k or more, for k from 1
  to m = L - 1. With binary t_1 >= ... >= t_m that add up to m z,

      (m z_a - m z_b)^2 = sum_kl |t_ak - t_bl|
                          - sum_(k<l) (t_ak - t_al) - sum_(k<l) (t_bk - t_bl),

  so that the energy is a linear function and a sum of absolute differences,
  each the maximum over a dual variable in [-1, 1].
  """
  unary, down, right = costs
  above = unary.shape[-1] - 1
  down, right = down / above**2, right / above**2
  degree = collect(down, down, right, right)[..., None]
  inner = (above - 1) - 2 * jnp.arange(above)
  slope = jnp.diff(unary, axis=-1) - degree * inner
  # Each variable has 2 m terms for every neighbour. Without neighbours a large
  # step decides it by its slope at once.
  step = 1 / jnp.maximum(2 * above * degree, 1e-9)

  def iterate(_: int, state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    t, ahead, dual_down, dual_right = state
    upper, lower = ahead[:, :-1, :, :, None], ahead[:, 1:, :, None, :]
    dual_down = jnp.clip(dual_down + 0.5 * (upper - lower), -1, 1)
    left, next_ = ahead[:, :, :-1, :, None], ahead[:, :, 1:, None, :]
    dual_right = jnp.clip(dual_right + 0.5 * (left - next_), -1, 1)
    pull_down = down[..., None, None] * dual_down
    pull_right = right[..., None, None] * dual_right
    pull = collect(
      jnp.sum(pull_down, -1),
      -jnp.sum(pull_down, -2),
      jnp.sum(pull_right, -1),
      -jnp.sum(pull_right, -2),
    )
    moved = _ordered(t - step * (slope + pull))
    return moved, 2 * moved - t, dual_down, dual_right

  # Computed from the costs, so that shard_map gives them the same type.
  start = 0.5 + 0 * slope
  duals = (
    jnp.zeros((*down.shape, above, above)) + 0 * down[..., None, None],
    jnp.zeros((*right.shape, above, above)) + 0 * right[..., None, None],
  )
  return jax.lax.fori_loop(0, _STEPS, iterate, (start, start, *duals))[0]


def _ordered(t: jax.Array) -> jax.Array:
  """Projects onto [0, 1] with t_1 >= t_2."""
  if t.shape[-1] == 2:
    mean = jnp.mean(t, axis=-1, keepdims=True)
    t = jnp.where(t[..., :1] >= t[..., 1:], t, mean)
  return jnp.clip(t, 0, 1)


def _sweep(costs: Costs, labels: jax.Array) -> jax.Array:
  """Gives each block its best label, given those of its neighbours."""
  unary, down, right = costs
  steps = unary.shape[-1] - 1
  values = jnp.arange(steps + 1) / steps
  # Neighbours change in turn, like the colours of a chessboard.
  square = jnp.arange(labels.shape[1])[:, None] + jnp.arange(labels.shape[2])
  for colour in (0, 1):
    z = (labels / steps)[..., None]

    def pair_cost(weight: jax.Array, other: jax.Array) -> jax.Array:
      return weight[..., None] * jnp.square(values - other)

    cost = unary + collect(
      pair_cost(down, z[:, 1:]),
      pair_cost(down, z[:, :-1]),
      pair_cost(right, z[:, :, 1:]),
      pair_cost(right, z[:, :, :-1]),
    )
    best = jnp.argmin(cost, axis=-1).astype(jnp.int32)
    labels = jnp.where(square % 2 == colour, best, labels)
  return labels


def collect(
  above: jax.Array, below: jax.Array, left: jax.Array, right: jax.Array
) -> jax.Array:
  """Sums, at each block, the contributions of its pairs with its neighbours.

  Args:
    above: `[B, n - 1, n, ...]`, for the upper block of each vertical pair.
    below: the same shape, for the lower block.
    left: `[B, n, n - 1, ...]`, for the left block of each horizontal pair.
    right: the same shape, for the right block.

  Returns:
    `[B, n, n, ...]`.
  """

  def pad(array: jax.Array, axis: int, width: tuple[int, int]) -> jax.Array:
    widths = [(0, 0)] * array.ndim
    widths[axis] = width
    return jnp.pad(array, widths)

  return (
    pad(above, 1, (0, 1))
    + pad(below, 1, (1, 0))
    + pad(left, 2, (0, 1))
    + pad(right, 2, (1, 0))
  )
