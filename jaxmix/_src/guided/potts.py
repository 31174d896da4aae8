"""Labels without an order on a grid: the Potts model, batched."""

import jax
import jax.numpy as jnp

_SWEEPS = 4


def potts_energy(
  unary: jax.Array, border: float | jax.Array, labels: jax.Array
) -> jax.Array:
  """The cost of labels: each its own, and `border` for neighbours that differ.

  Args:
    unary: float32 `[..., n, n, K]`.
    border: 0 or more.
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
  """Labels of small cost: int32 `[..., n, n]`.

  Four beginnings: the labels given, the best of each block, the best of each
  block and its neighbours together, and the best for all blocks alike. From
  each, blocks take their best label, those of one colour of a chessboard at a
  time; the result that costs least is taken.

  Args:
    unary: float32 `[..., n, n, K]`.
    border: 0 or more.
    labels: int32 `[..., n, n]`.

  >>> unary = jnp.array([[[0.0, 1.0], [0.4, 0.0]]])
  >>> label_grid(unary, 0.5, jnp.array([[1, 1]])).tolist()
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
  tried = jnp.stack(starts).astype(jnp.int32)
  row, column = labels.shape[-2:]
  colours = (jnp.arange(row)[:, None] + jnp.arange(column)) % 2

  def sweep(_: int, tried: jax.Array) -> jax.Array:
    for colour in (0, 1):
      same = _around(jax.nn.one_hot(tried, classes, dtype=unary.dtype))
      best = jnp.argmin(unary - border * same, axis=-1).astype(jnp.int32)
      tried = jnp.where(colours == colour, best, tried)
    return tried

  tried = jax.lax.fori_loop(0, _SWEEPS, sweep, tried)
  cost = potts_energy(unary[None], border, tried)
  least = jnp.argmin(cost, axis=0)[None, ..., None, None]
  return jnp.take_along_axis(tried, least, axis=0)[0]


def _around(field: jax.Array) -> jax.Array:
  """The sum over the up to four neighbours: of `[..., n, n, K]`."""
  wide = [(0, 0)] * (field.ndim - 3)
  padded = jnp.pad(field, [*wide, (1, 1), (1, 1), (0, 0)])
  vertical = padded[..., :-2, 1:-1, :] + padded[..., 2:, 1:-1, :]
  horizontal = padded[..., 1:-1, :-2, :] + padded[..., 1:-1, 2:, :]
  return vertical + horizontal
