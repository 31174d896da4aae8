"""Tests of Co-Mixup: the solver, the draws and their application."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from jaxmix._src.guided.co_mixup import solve
from tests.jaxmix import drawn

SHAPE = (8, 16, 16, 3)
BATCH = SHAPE[0]
SALIENCY = (
  np.random.default_rng(0).gamma(1, 1, SHAPE[:3]).astype(np.float32) ** 2
)


@functools.cache
def drawer(**options):
  return drawn.quick(functools.partial(jaxmix.draw_co_mixup, **options))


def draw(seed=0):
  """Two groups of four; compiled once."""
  return np.asarray(drawer(group=4)(jax.random.key(seed), SALIENCY))


# --- The solver ---


def objective(cost, owner, border, weight, limit):
  """What the outputs of one group cost together, float64, by loops."""
  outputs, n, _ = owner.shape
  count = np.array(
    [np.bincount(o.ravel(), minlength=cost.shape[-1]) for o in owner]
  )
  total = 0.0
  for o, i, j in np.ndindex(owner.shape):
    total += cost[i, j, owner[o, i, j]]
    total += border * (i > 0 and owner[o, i, j] != owner[o, i - 1, j])
    total += border * (j > 0 and owner[o, i, j] != owner[o, i, j - 1])
  for o in range(outputs):
    others = count.sum(0) - count[o]
    total += weight / 2 * np.sum(others * (others > limit) * count[o])
  return total


def least_objective(cost, border, weight, limit):
  """The least over all pairs of outputs of 2 x 2 blocks of `m` images."""
  m = cost.shape[-1]
  every = np.array(list(itertools.product(range(m), repeat=4)))
  grid = every.reshape(-1, 2, 2)
  row, column = np.indices((2, 2))
  alone = cost[row, column, grid].sum((1, 2))
  alone = alone + border * (np.diff(grid, axis=1) != 0).sum((1, 2))
  alone = alone + border * (np.diff(grid, axis=2) != 0).sum((1, 2))
  count = np.stack([(every == k).sum(1) for k in range(m)], 1)
  over = count * (count > limit)
  both = weight / 2 * (over @ count.T + count @ over.T)
  return np.min(alone[:, None] + alone + both)


# Measured: 0.023 of what the solver gains, and 0: the threshold makes it easy.
@pytest.mark.parametrize('limit, most', [(0.0, 0.04), (0.83 * 4, 0.005)])
def test_tiny_groups_are_near_the_optimum(limit, most):
  rng = np.random.default_rng(1)
  saliency = rng.gamma(1, 1, (40, 2, 2, 3))
  saliency /= saliency.sum((1, 2), keepdims=True)
  cost = -saliency.astype(np.float32)
  start = rng.integers(0, 3, (40, 2, 2, 2))
  border, weight = 0.32 / 4, 2 / 4
  found = np.asarray(
    solve(cost, start, border=border, weight=weight, limit=limit, sweeps=4)
  )
  got, first = (
    np.array(
      [
        objective(c, z, border, weight, limit)
        for c, z in zip(cost, owner, strict=True)
      ]
    )
    for owner in (found, start)
  )
  best = np.array(
    [least_objective(c.astype(float), border, weight, limit) for c in cost]
  )
  assert (got > best - 1e-5).all(), 'less than the least'
  gap = (got - best).sum() / (first - best).sum()
  assert gap < most


def test_each_output_is_the_best_beside_the_others():
  # Without borders an output's best is each block's, given the counts.
  rng = np.random.default_rng(2)
  cost = rng.normal(size=(40, 2, 2, 3)).astype(np.float32)
  start = rng.integers(0, 3, (40, 2, 2, 2))
  found = np.asarray(
    solve(cost, start, border=0.0, weight=0.3, limit=1.0, sweeps=4)
  )
  for c, z in zip(cost, found, strict=True):
    others = np.bincount(z[0].ravel(), minlength=3)
    want = np.argmin(c + 0.3 * others * (others > 1), axis=-1)
    np.testing.assert_array_equal(z[1], want)


# --- Draws ---


def test_blocks_are_from_the_group_and_images_share_them():
  for seed in range(4):
    owner = draw(seed)
    assert owner.shape == (8, 4, 4) and owner.dtype == np.int32
    first = 4 * (np.arange(8) // 4)[:, None, None]
    assert ((owner >= first) & (owner < first + 4)).all()
    count = np.stack([np.bincount(o.ravel(), minlength=8) for o in owner])
    # Nobody is much more in the outputs than the threshold lets in: its blocks
    # in the others are up to 0.83 of 16 when it is chosen.
    assert count.sum(0).max() <= 2 * 16
    assert (count > 0).sum(1).max() >= 2, 'nothing is mixed'
  assert (draw(0) != draw(1)).any()


def test_what_is_salient_is_kept():
  images = np.repeat(SALIENCY[..., None], 1, axis=-1)
  fraction = images / images.sum((1, 2, 3), keepdims=True)
  kept = [
    np.asarray(jaxmix.take_blocks(fraction, draw(seed))).sum((1, 2, 3)).mean()
    for seed in range(4)
  ]
  # An image alone keeps 1; what is kept beyond that is what mixing is for.
  assert np.mean(kept) > 1.15


def test_a_batch_that_the_group_does_not_divide_has_smaller_groups():
  owner = np.asarray(drawer(group=5, sweeps=1)(jax.random.key(0), SALIENCY[:6]))
  first = 3 * (np.arange(6) // 3)[:, None, None]
  assert ((owner >= first) & (owner < first + 3)).all()


def test_a_batch_that_would_not_be_mixed_is_refused():
  with pytest.raises(ValueError, match='group=4.* 7 '):
    jaxmix.draw_co_mixup(jax.random.key(0), SALIENCY[:7], group=4)
  alone = drawer(sweeps=1)(jax.random.key(0), SALIENCY[:1])
  assert not np.asarray(alone).any()


def test_chances_are_those_of_a_dirichlet():
  # Without saliency and borders, one output of two images is of the likelier.
  flat = np.zeros((4000, 2, 2), np.float32)
  each = drawer(
    group=2, grid=2, border_cost=0.0, diversity=0.0, concentration=2, sweeps=1
  )
  owner = np.asarray(each(jax.random.key(3), flat))
  assert (owner == owner[:, :1, :1]).all()
  pairs = owner[:, 0, 0].reshape(-1, 2)
  assert (pairs[:, 0] == pairs[:, 1]).all()
  # Four standard errors of 2000 fair coins.
  assert abs(np.mean(pairs[:, 0] % 2) - 0.5) < 0.045


# --- Applying ---


def test_pixels_are_copied_and_labels_are_their_fractions():
  rng = np.random.default_rng(4)
  owner = rng.integers(0, BATCH, (BATCH, 4, 4))
  images = rng.integers(0, 256, SHAPE).astype(np.uint8)
  found = np.asarray(jaxmix.take_blocks(images, owner))
  assert found.dtype == np.uint8
  for b, i, j in np.ndindex(SHAPE[:3]):
    want = images[owner[b, i // 4, j // 4], i, j]
    np.testing.assert_array_equal(found[b, i, j], want)
  labels = rng.integers(0, 5, BATCH)
  dense = np.asarray(jaxmix.block_labels(labels, owner, num_classes=5))
  for label, blocks in zip(dense, owner, strict=True):
    fraction = np.bincount(labels[blocks.ravel()], minlength=5) / 16
    np.testing.assert_allclose(label, fraction, atol=1e-6)
  one_hot = np.eye(5, dtype=np.float32)[labels]
  got = jaxmix.block_labels(one_hot, owner)
  np.testing.assert_allclose(got, dense, atol=1e-6)


def test_equal_images_stay_as_they_are():
  image = np.random.default_rng(5).normal(size=(1, 16, 16, 3))
  images = np.repeat(image, BATCH, 0).astype(np.float32)
  np.testing.assert_array_equal(jaxmix.take_blocks(images, draw()), images)


def test_the_mode_is_draw_and_apply():
  rng = np.random.default_rng(6)
  images = rng.integers(0, 256, SHAPE).astype(np.uint8)
  labels, key = np.arange(BATCH), jax.random.key(0)
  mixed, dense = drawn.quick(
    functools.partial(jaxmix.co_mixup, num_classes=BATCH, group=4)
  )(key, images, labels, saliency=SALIENCY)
  np.testing.assert_array_equal(mixed, jaxmix.take_blocks(images, draw()))
  want = jaxmix.block_labels(labels, draw(), num_classes=BATCH)
  np.testing.assert_array_equal(dense, want)


def test_an_invalid_label_gives_nan():
  owner = jnp.array([[[0, 1], [1, 1]], [[1, 1], [1, 1]]])
  dense = jax.jit(functools.partial(jaxmix.block_labels, num_classes=2))(
    jnp.array([7, 1]), owner
  )
  assert np.isnan(dense[0]).all() and np.isfinite(dense[1]).all()


@pytest.mark.parametrize(
  'options, message',
  [
    ({'group': 1}, 'group=1'),
    ({'grid': 3}, r'grid=3.*\[16, 16\]'),
    ({'concentration': 0.5}, r'concentration=0\.5'),
    ({'border_cost': -1.0}, r'border_cost=-1\.0'),
    ({'diversity': float('nan')}, 'diversity=nan'),
    ({'threshold': -1.0}, r'threshold=-1\.0'),
    ({'input_prior': -1.0}, r'input_prior=-1\.0'),
    ({'sweeps': 1.5}, r'sweeps=1\.5'),
  ],
)
def test_an_option_out_of_range_is_named(options, message):
  with pytest.raises(ValueError, match=message):
    jaxmix.draw_co_mixup(jax.random.key(0), SALIENCY, **options)


@pytest.mark.parametrize(
  'owner, message',
  [
    (np.zeros((7, 4, 4), int), r'owner.*\[7, 4, 4\]'),
    (np.zeros((8, 4, 2), int), r'owner.*\[8, 4, 2\]'),
    (np.zeros((8, 3, 3), int), r'owner=3.*\[16, 16\]'),
  ],
)
def test_blocks_of_other_images_are_refused(owner, message):
  with pytest.raises(ValueError, match=message):
    jaxmix.take_blocks(np.zeros(SHAPE, np.float32), owner)
