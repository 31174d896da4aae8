"""Potts model: a batched solver for unordered labels on a grid."""

import jax
import jax.numpy as jnp

_SWEEPS = 4


def potts_energy(
  unary: jax.Array, border: float | jax.Array, labels: jax.Array
) -> jax.Array:
  """Returns the cost of labels: unary costs, and `border` for each border.

  A border lies between two neighbours with different labels.

  Args:
    unary: float32 `[..., n, n, K]`, the cost of each label.
    border: cost of a border, 0 or more.
    labels: int32 `[..., n, n]`.

  Returns:
    float32 `[...]`.

  >>> potts_energy(jnp.zeros((2, 2, 3)), 0.5, jnp.array([[0, 1], [0, 0]]))
  Array(1., dtype=float32)
  """
  own = jnp.take_along_axis(unary, labels[..., None], axis=-1)[..., 0]
  down = labels[..., 1:, :] != labels[..., :-1, :]
  right = labels[..., :, 1:] != labels[..., :, :-1]
  borders = jnp.sum(down, axis=(-2, -1)) + jnp.sum(right, axis=(-2, -1))
  return jnp.sum(own, axis=(-2, -1)) + border * borders


def label_grid(
  unary: jax.Array, border: float | jax.Array, labels: jax.Array
) -> jax.Array:
  """Finds labels of low cost: int32 `[..., n, n]`.

  There are four starting points: the given labels, the best label of each
  block, the best label of each block together with its neighbours, and the best
  single label for all blocks. From each, blocks take their best label, one
  colour of a chessboard at a time. The cheapest result is returned.

  Args:
    unary: float32 `[..., n, n, K]`, the cost of each label.
    border: cost of a border, 0 or more.
    labels: int32 `[..., n, n]`, the first starting point.

  >>> unary = jnp.array([[[0.0, 1.0], [0.4, 0.0]]])
  >>> jax.jit(label_grid)(unary, 0.5, jnp.array([[1, 1]])).tolist()
  [[0, 0]]
  """
  classes = unary.shape[-1]
  together = jnp.sum(unary, axis=(-3, -2), keepdims=True)
  starts = [
    labels,
    jnp.argmin(unary, axis=-1),
    jnp.argmin(unary + _around(unary), axis=-1),
    jnp.broadcast_to(jnp.argmin(together, axis=-1), labels.shape),
  ]
  results = jnp.stack(starts).astype(jnp.int32)
  row, column = labels.shape[-2:]
  colours = (jnp.arange(row)[:, None] + jnp.arange(column)) % 2

  def sweep(_: int, results: jax.Array) -> jax.Array:
    for colour in (0, 1):
      same = _around(jax.nn.one_hot(results, classes, dtype=unary.dtype))
      best = jnp.argmin(unary - border * same, axis=-1).astype(jnp.int32)
      results = jnp.where(colours == colour, best, results)
    return results

  results = jax.lax.fori_loop(0, _SWEEPS, sweep, results)
  cost = potts_energy(unary[None], border, results)
  least = jnp.argmin(cost, axis=0)[None, ..., None, None]
  return jnp.take_along_axis(results, least, axis=0)[0]


def _around(field: jax.Array) -> jax.Array:
  """Sums `[..., n, n, K]` over the up to four neighbours."""
  wide = [(0, 0)] * (field.ndim - 3)
  padded = jnp.pad(field, [*wide, (1, 1), (1, 1), (0, 0)])
  vertical = padded[..., :-2, 1:-1, :] + padded[..., 2:, 1:-1, :]
  horizontal = padded[..., 1:-1, :-2, :] + padded[..., 1:-1, 2:, :]
  return vertical + horizontal
