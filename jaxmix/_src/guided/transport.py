"""Moving the blocks of an image to where they are seen."""

import jax
import jax.numpy as jnp
import numpy as np

# Blocks seldom go farther than two places; after eight rounds nothing changes
# (tests/jaxmix/guided/transport_test.py).
_ROUNDS = 8


def distances(count: int) -> np.ndarray:
  """Squared distances of the places of a grid: float32 `[count^2, count^2]`.

  In units of the distance from the first row to the last.

  >>> distances(3)[0].tolist()
  [0.0, 0.25, 1.0, 0.25, 0.5, 1.25, 1.0, 1.25, 2.0]
  """
  row, column = np.divmod(np.arange(count**2), count)
  square = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
  return (square / max(count - 1, 1) ** 2).astype(np.float32)


@jax.jit
def transport(
  saliency: jax.Array, seen: jax.Array, cost: float | jax.Array
) -> jax.Array:
  """Which block to put at each place: Puzzle Mix, section 4.2.

  Block i at a place j that is seen is worth `saliency[i] - cost * d(i, j)`, at
  another `-cost * d(i, j)`. The published code has every block choose its best
  place; a place chosen by several keeps the one worth most, and the others
  choose again without it. That is deferred acceptance (Gale and Shapley, 1962),
  and this is the same; but where the published code drops the blocks that are
  left and leaves places unseen empty, here these are put there, in their order,
  so that the result is a permutation.

  Args:
    saliency: float32 `[B, n, n]`, shares of each image's sum.
    seen: bool `[B, n, n]`.
    cost: of the squared distance, 0 or more.

  Returns:
    int32 `[B, n, n]`: a block, counted along the rows, for each place.

  >>> saliency = jnp.array([[[0.9, 0.1], [0.0, 0.0]]])
  >>> seen = jnp.array([[[False, True], [False, False]]])
  >>> transport(saliency, seen, 0.5).tolist()
  [[[1, 0], [2, 3]]]
  """
  batch, count, _ = saliency.shape
  size = count**2
  gain = saliency.reshape(batch, size, 1) * seen.reshape(batch, 1, size)
  worth = gain - cost * distances(count)
  place = jnp.arange(size, dtype=jnp.int32)

  def propose(
    barred: jax.Array,
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Which pairs propose, and the best block at each place."""
    choice = jnp.argmax(jnp.where(barred, -jnp.inf, worth), axis=2)
    proposed = choice[:, :, None] == place
    return proposed, *_best(jnp.where(proposed, worth, -jnp.inf))

  def bar(_: int, barred: jax.Array) -> jax.Array:
    proposed, winner, _filled = propose(barred)
    return barred | (proposed & (place[:, None] != winner[:, None, :]))

  none = (worth != worth) & False  # of the type that shard_map gives `worth`
  barred = jax.lax.fori_loop(0, _ROUNDS - 1, bar, none)
  _, winner, filled = propose(barred)
  # The k-th block left goes to the k-th place left.
  won = jnp.any(
    (winner[:, None, :] == place[:, None]) & filled[:, None, :], axis=2
  )
  left = jnp.argsort(won, axis=1, stable=True).astype(jnp.int32)
  rank = jnp.cumsum(~filled, axis=1) - 1
  rest = jnp.take_along_axis(left, jnp.maximum(rank, 0), axis=1)
  return jnp.where(filled, winner, rest).reshape(batch, count, count)


def _best(bids: jax.Array) -> tuple[jax.Array, jax.Array]:
  """The best block for each place, and whether there is one."""
  return (
    jnp.argmax(bids, axis=1).astype(jnp.int32),
    jnp.max(bids, axis=1) > -jnp.inf,
  )
