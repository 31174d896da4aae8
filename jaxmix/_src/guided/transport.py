"""Transport: moves salient blocks to the positions that the mask shows."""

import jax
import jax.numpy as jnp
import numpy as np

# Blocks rarely move more than two positions; after eight rounds nothing changes
# (tests/jaxmix/guided/transport_test.py).
_ROUNDS = 8


def distances(count: int) -> np.ndarray:
  """Returns squared distances in a grid: float32 `[count^2, count^2]`.

  The unit is the distance from the first row to the last.

  >>> distances(3)[0].tolist()
  [0.0, 0.25, 1.0, 0.25, 0.5, 1.25, 1.0, 1.25, 2.0]
  """
  row, column = np.divmod(np.arange(count**2), count)
  square = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
  return (square / max(count - 1, 1) ** 2).astype(np.float32)


@jax.jit
def transport(
  saliency: jax.Array, visible: jax.Array, cost: float | jax.Array
) -> jax.Array:
  """Returns the block for each position: Puzzle Mix, section 4.2.

  Block i has the value `saliency[i] - cost * d(i, j)` at a visible position j,
  and `-cost * d(i, j)` at any other. In the published code every block chooses
  its best position; a position chosen by several blocks keeps the most valuable
  one, and the others choose again without it. That is deferred acceptance (Gale
  and Shapley, 1962), which is computed here. The published code drops the
  blocks that remain and leaves hidden positions empty; here the remaining
  blocks fill these positions in order, so that the result is a permutation.

  Args:
    saliency: float32 `[B, n, n]`, fractions of each image's saliency.
    visible: bool `[B, n, n]`, whether the mask shows the position.
    cost: cost of the squared distance, 0 or more.

  Returns:
    int32 `[B, n, n]`: the number of the block, in row-major order, for each
    position.

  >>> saliency = jnp.array([[[0.9, 0.1], [0.0, 0.0]]])
  >>> visible = jnp.array([[[False, True], [False, False]]])
  >>> transport(saliency, visible, 0.5).tolist()
  [[[1, 0], [2, 3]]]
  """
  batch, count, _ = saliency.shape
  size = count**2
  gain = saliency.reshape(batch, size, 1) * visible.reshape(batch, 1, size)
  value = gain - cost * distances(count)
  index = jnp.arange(size, dtype=jnp.int32)

  def propose(
    rejected: jax.Array,
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns which pairs propose, and the best block at each position."""
    choice = jnp.argmax(jnp.where(rejected, -jnp.inf, value), axis=2)
    proposed = choice[:, :, None] == index
    return proposed, *_best(jnp.where(proposed, value, -jnp.inf))

  def reject(_: int, rejected: jax.Array) -> jax.Array:
    proposed, winner, _filled = propose(rejected)
    return rejected | (proposed & (index[:, None] != winner[:, None, :]))

  # All False, computed from `value` so that shard_map gives it the same type.
  none = (value != value) & False
  rejected = jax.lax.fori_loop(0, _ROUNDS - 1, reject, none)
  _, winner, filled = propose(rejected)
  # The k-th remaining block goes to the k-th empty position.
  won = jnp.any(
    (winner[:, None, :] == index[:, None]) & filled[:, None, :], axis=2
  )
  remaining = jnp.argsort(won, axis=1, stable=True).astype(jnp.int32)
  rank = jnp.cumsum(~filled, axis=1) - 1
  rest = jnp.take_along_axis(remaining, jnp.maximum(rank, 0), axis=1)
  return jnp.where(filled, winner, rest).reshape(batch, count, count)


def _best(bids: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the best block for each position, and whether there is one."""
  return (
    jnp.argmax(bids, axis=1).astype(jnp.int32),
    jnp.max(bids, axis=1) > -jnp.inf,
  )
