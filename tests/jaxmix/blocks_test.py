"""Tests of grids of blocks: pooling and orders."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix._src import blocks, gather

move = jax.jit(gather.move_blocks)


def random_order(rng, batch, n):
  orders = [rng.permutation(n * n).reshape(n, n) for _ in range(batch)]
  return np.stack(orders).astype(np.int32)


def test_a_finer_order_is_the_same_move():
  rng = np.random.default_rng(0)
  images = rng.normal(size=(4, 24, 12, 2)).astype(np.float32)
  order = random_order(rng, 4, 3)
  fine = np.asarray(jax.jit(blocks.refine, static_argnums=1)(order, 12))
  np.testing.assert_array_equal(move(images, fine), move(images, order))
  assert (np.sort(fine.reshape(4, -1), 1) == np.arange(144)).all()


def test_pools_and_fractions_are_means_of_blocks():
  field = np.random.default_rng(1).random((3, 6, 4)).astype(np.float32)
  pooled = np.asarray(blocks.pool(jnp.asarray(field), 2))
  for i, j in np.ndindex(2, 2):
    part = field[:, 3 * i : 3 * i + 3, 2 * j : 2 * j + 2]
    np.testing.assert_allclose(pooled[:, i, j], part.mean((1, 2)), rtol=1e-6)
  fraction = np.asarray(blocks.fractions(jnp.asarray(field), 2))
  np.testing.assert_allclose(fraction.sum((1, 2)), 1, rtol=1e-6)
  np.testing.assert_allclose(
    fraction[:, 0, 1] / fraction[:, 1, 0],
    pooled[:, 0, 1] / pooled[:, 1, 0],
    rtol=1e-5,
  )
  assert not blocks.fractions(jnp.zeros((1, 4, 4)), 2).any()


def test_pooling_undoes_upsampling():
  plane = np.random.default_rng(2).random((3, 4, 4)).astype(np.float32)
  wide = blocks.upsample(jnp.asarray(plane), (12, 8))
  assert wide.shape == (3, 12, 8)
  np.testing.assert_allclose(blocks.pool(wide, 4), plane, rtol=1e-6)
