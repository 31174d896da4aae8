"""Tests of FMix: the masks and their number of pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxmix
from jaxmix._src import ratio
from jaxmix._src.fmix import mask_above, soft_mask, top_mask
from tests.jaxmix import drawn, reference

SPATIAL_SHAPE = (5, 7)
SIZE = 35


def make_fields():
  """Fields that are easy, and fields made of ties."""
  rng = np.random.default_rng(0)
  smooth = rng.normal(size=(30, *SPATIAL_SHAPE))
  coarse = np.round(rng.normal(size=(30, *SPATIAL_SHAPE))) + 0.0  # no -0.0
  constant = np.stack(
    [np.full(SPATIAL_SHAPE, v) for v in (0.0, -0.0, 3.0, -2.5, 1e30)]
  )
  tiny = rng.choice(
    [2e-38, -2e-38, 3e-38, 0], (5, *SPATIAL_SHAPE)
  )  # not denormal
  huge = rng.choice([3e38, -3e38, np.inf, -np.inf, 1.0], (5, *SPATIAL_SHAPE))
  blocks = (smooth, -np.abs(smooth), coarse, constant, tiny, huge)
  return np.concatenate(blocks).astype(np.float32)


FIELDS = make_fields()
top_masks = jax.jit(top_mask)


def test_exactly_the_largest_pixels():
  rng = np.random.default_rng(1)
  counts = rng.integers(0, SIZE + 1, (8, len(FIELDS))).astype(np.int32)
  counts[0], counts[1], counts[2], counts[3] = 0, SIZE, 1, SIZE - 1
  for count in counts:
    got = np.asarray(top_masks(FIELDS, count))
    np.testing.assert_array_equal(
      got.sum((1, 2)), count, 'not exactly as many pixels as asked for'
    )
    for mask, field, number in zip(got, FIELDS, count, strict=True):
      best = reference.top_pixels(field, number)
      # Which of the pixels equal to the last one are taken is free.
      np.testing.assert_array_equal(
        np.sort(field[mask]),
        np.sort(field[best]),
        f'not those that a sort puts first, of {field}',
      )
      if len(np.unique(field)) == SIZE:
        np.testing.assert_array_equal(mask, best)


def test_minus_zero_ties_with_zero():
  field = jnp.array([[-0.0, 0.0, -0.0, 0.0]], jnp.float32)
  count = jnp.array([1], jnp.int32)
  mask = [np.asarray(f(field, count)).tolist() for f in (top_mask, top_masks)]
  assert mask[0] == [[True, False, False, False]]
  assert mask[1] == mask[0], 'XLA simplified away that -0.0 is 0.0'


def test_masks_are_nested_in_lambda():
  previous = np.zeros(FIELDS.shape, bool)
  for count in range(0, SIZE + 1, 5):
    mask = np.asarray(top_masks(FIELDS, np.full(len(FIELDS), count, np.int32)))
    assert (mask | ~previous).all(), 'a larger lambda gave up a pixel'
    previous = mask
  assert previous.all()


@pytest.mark.parametrize('spatial_shape', [(1,), (3, 4, 5)])
def test_top_mask_in_other_dimensions(spatial_shape):
  field = (
    np.random.default_rng(2).normal(size=(3, *spatial_shape)).astype(np.float32)
  )
  size = field[0].size
  count = np.array([0, size // 2, size], np.int32)
  mask = np.asarray(top_masks(field, count))
  for i in range(3):
    np.testing.assert_array_equal(
      mask[i], reference.top_pixels(field[i], count[i])
    )


@pytest.mark.parametrize('max_soft', [0.1, 0.5])
def test_soft_masks(max_soft):
  rng = np.random.default_rng(3)
  count = rng.integers(0, SIZE + 1, len(FIELDS)).astype(np.int32)
  count[:2] = 0, SIZE
  ratio = (count / SIZE).astype(np.float32)
  finite = np.nan_to_num(FIELDS)
  got = np.asarray(
    jax.jit(soft_mask, static_argnums=3)(finite, count, ratio, max_soft)
  )
  assert got.min() >= 0 and got.max() <= 1
  np.testing.assert_allclose(
    got.sum((1, 2)), count, atol=1e-3, err_msg='softening changed the sum'
  )
  for mask, field, number, lam in zip(got, finite, count, ratio, strict=True):
    fraction = min(max_soft, lam, 1 - lam)
    ranked = mask.ravel()[reference.by_rank(field)]
    assert (np.diff(ranked) <= 1e-6).all(), 'a darker pixel weighs more'
    partly = ((mask > 0) & (mask < 1)).sum()
    assert partly <= 2 * SIZE * fraction + 1e-3, 'the border is too wide'
    # If SIZE * fraction is nearly whole, the border may lack one pixel.
    wants = {int(SIZE * fraction + nudge) for nudge in (-1e-3, 0, 1e-3)}
    errors = [
      np.abs(mask - reference.soft_top(field, number, max(soft, 0))).max()
      for soft in wants
    ]
    assert min(errors) < 1e-5


# The isotropic hard masks are in mix_test.
DRAWN = [
  ('isotropic', 0.3, (20, 7, 6, 1)),
  ('official', 0.0, (20, 4, 6, 5, 1)),
]


@pytest.mark.parametrize('spectrum, max_soft, shape', DRAWN)
def test_lam_is_the_mean_of_the_mask(spectrum, max_soft, shape):
  draw = functools.partial(
    jaxmix.draw_fmix,
    shape=shape,
    spectrum=spectrum,
    max_soft=max_soft,
    granularity='sample',
  )
  mix = drawn.quick(draw)(jax.random.key(0))
  mask, lam = np.asarray(mix.mask), np.asarray(mix.lam)
  assert mask.shape == shape[:-1]
  assert mask.dtype == (np.float32 if max_soft else bool)
  mean = mask.reshape(shape[0], -1).mean(1)
  np.testing.assert_allclose(lam, mean, atol=1e-6 if not max_soft else 1e-5)
  assert len(set(lam.tolist())) > 5, 'samples share a lambda'
  assert (mask[0] != mask[1]).any(), 'samples share a mask'


def test_lam_is_floor_or_ceil_by_a_fair_coin(monkeypatch):
  # With a Beta that returns its parameter, 35 pixels at .3 are 10 or 11.
  monkeypatch.setattr(
    ratio, 'beta_of', lambda u, v, alpha: jnp.full(u.shape, alpha)
  )
  draw = drawn.quick(
    lambda key, alpha: jaxmix.draw_fmix(
      key, (2000, *SPATIAL_SHAPE, 1), alpha=alpha, granularity='sample'
    )
  )
  kept = {
    alpha: np.asarray(draw(jax.random.key(1), jnp.float32(alpha)).mask).sum(
      (1, 2)
    )
    for alpha in (0.3, 0.4)
  }
  assert set(kept[0.3]) == {10, 11}
  # Five standard errors of a fair coin thrown 2000 times.
  assert abs((kept[0.3] == 11).mean() - 0.5) < 5 * 0.5 / np.sqrt(2000)
  assert set(kept[0.4]) == {14}, 'a whole number of pixels was rounded'


def test_the_mask_above_a_pixel_is_that_of_its_rank():
  rng = np.random.default_rng(4)
  pixel = np.stack([rng.integers(0, n, len(FIELDS)) for n in SPATIAL_SHAPE], 1)
  for included in (False, True):
    got = np.asarray(
      jax.jit(mask_above)(FIELDS, pixel, np.full(len(FIELDS), included))
    )
    for mask, field, (i, j) in zip(got, FIELDS, pixel, strict=True):
      own = field[i, j]
      want = field >= own if included else field > own
      np.testing.assert_array_equal(mask, want)


def test_a_uniform_ratio_has_uniform_counts():
  # 6 pixels: counts 1..5 have probability 1/6, 0 and 6 have 1/12: what floor or
  # ceil, by a fair coin, of 6 times a uniform number gives.
  many = 24_000
  draw = functools.partial(
    jaxmix.draw_fmix, shape=(many, 2, 3, 1), granularity='sample'
  )
  mix = drawn.quick(draw)(jax.random.key(5))
  seen = np.bincount(np.asarray(mix.mask).sum((1, 2)), minlength=7)
  p = stats.chisquare(seen, many * np.array([1, 2, 2, 2, 2, 2, 1]) / 12).pvalue
  assert p > 1e-4, f'counts {seen} are not uniform (p={p:.1e})'
  np.testing.assert_allclose(mix.lam, mix.mask.mean((1, 2)), atol=1e-6)


def test_one_mask_a_batch():
  mixes = drawn.modes()['fmix', 'batch']
  assert mixes.mask.shape == (drawn.COUNT, 1, *drawn.IMAGES[1:-1])
  lam = np.asarray(mixes.lam)
  assert (lam == lam[:, :1]).all()


@pytest.mark.slow
def test_works_where_float64_is_enabled():
  # Floats are then drawn in float64 unless told otherwise.
  with jax.enable_x64(True):
    draw = functools.partial(jaxmix.draw_fmix, shape=(3, 4, 6, 1))
    mix = drawn.quick(draw)(jax.random.key(3))
    assert mix.mask.shape == (1, 4, 6)
    assert mix.lam.dtype == np.float32
    np.testing.assert_allclose(mix.mask.mean(), mix.lam, atol=1e-6)
