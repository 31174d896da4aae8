"""Tests of CutMix: the box and its distribution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxmix
from jaxmix._src import ratio
from jaxmix._src.boxes import cut_box, share_sides
from tests.jaxmix import drawn, reference

MANY = 200_000
cut_boxes = jax.jit(cut_box, static_argnums=2)


def test_published_example():
  # By hand: half the side, 16 of 32, centred on row 0 and on column 31.
  box = cut_box(jnp.array([0.75]), jnp.array([[0, 31]]), (32, 32))
  assert box.tolist() == [[[0, 8], [23, 32]]]


@pytest.mark.parametrize(
  'spatial_shape', [(32, 32), (224, 224), (7, 96), (21,), (6, 9, 5)]
)
def test_box_is_the_published_one(spatial_shape):
  rng = np.random.default_rng(0)
  ends = [0, 1, 1e-7, 1e-3, 0.25, 0.5, 0.75, 1 - 1e-3, np.nextafter(1, 0)]
  lam = np.concatenate([ends, rng.random(20_000)]).astype(np.float32)
  centre = rng.integers(
    0, spatial_shape, (len(lam), len(spatial_shape))
  ).astype(np.int32)
  got = np.asarray(cut_boxes(lam, centre, spatial_shape))
  want, side = reference.cut_box(lam, centre, spatial_shape)
  differs = (got != want).any(-1)
  unclear = reference.near_integer(side)
  assert not (differs & ~unclear).any(), (
    'the box differs from the published one by more than rounding'
  )
  assert differs.mean() < 1e-3
  low, high = got[..., 0], got[..., 1]
  assert (0 <= low).all() and (low <= high).all()
  assert (high <= spatial_shape).all(), 'a box reaches out of the image'
  assert (got[lam == 1][..., 0] == got[lam == 1][..., 1]).all(), (
    'lam=1 cuts something'
  )


@pytest.mark.parametrize('spatial_shape', [(64,), (64, 64), (64, 64, 64)])
def test_volume_is_the_fraction_in_any_dimension(spatial_shape):
  # Catches the square root of the 2-D formula used for 1-D and 3-D data.
  lam = np.linspace(0.1, 0.9, 81).astype(np.float32)
  centre = np.full((len(lam), len(spatial_shape)), 32, np.int32)
  box = np.asarray(cut_boxes(lam, centre, spatial_shape))
  fraction = reference.box_fraction(box, spatial_shape)
  # Each side is rounded down to an even number: at most 2 of 64 too short.
  lost = len(spatial_shape) * 2 / 64
  assert (fraction <= 1 - lam + 1e-6).all()
  assert (fraction > 1 - lam - lost).all()
  # Where the root is a whole even number nothing is lost but to rounding.
  exact = np.float32(1 - 0.5 ** len(spatial_shape))
  half = np.asarray(cut_boxes(np.array([exact]), centre[:1], spatial_shape))
  assert half.tolist() == [[[16, 48]] * len(spatial_shape)]


@functools.cache
def boxes(side):
  shape = (MANY, side, side, 1)
  draw = functools.partial(
    jaxmix.draw_cutmix, shape=shape, granularity='sample', pairing='roll'
  )
  mix = drawn.quick(draw)(jax.random.key(side))
  return np.asarray(mix.box), np.asarray(mix.lam)


# Of 400 000 draws of the published code (mixing.md, 1.2). Thresholds are about
# five standard errors of 200 000 draws, and the rounding of the numbers.
QUANTILES = {
  32: (0.7008, (0.367, 0.578, 0.719, 0.850, 0.965)),
  224: (0.6821, (0.342, 0.556, 0.696, 0.831, 0.961)),
}


@pytest.mark.parametrize('side', [32, 224])
def test_label_weights_have_the_published_distribution(side):
  box, lam = boxes(side)
  np.testing.assert_allclose(
    lam,
    1 - reference.box_fraction(box, (side, side)),
    atol=1e-6,
    err_msg='lam is not the clipped area (keras-cv is off by .18 here)',
  )
  mean, quantiles = QUANTILES[side]
  assert abs(lam.mean() - mean) < 0.003
  got = np.quantile(lam, [0.05, 0.25, 0.5, 0.75, 0.95])
  np.testing.assert_allclose(got, quantiles, atol=0.006)


def test_empty_boxes_are_as_rare_as_published():
  for side, low, high in ((32, 0.0035, 0.0047), (224, 0.00001, 0.0003)):
    box, _ = boxes(side)
    rate = (reference.box_fraction(box, (side, side)) == 0).mean()
    assert low < rate < high, f'{side}x{side}: {rate:.3%} of boxes are empty'


@pytest.mark.parametrize(
  'side, centre, corner', [(32, 0.457, 0.135), (224, 0.494, 0.126)]
)
def test_pixels_are_pasted_as_often_as_published(side, centre, corner):
  box, _ = boxes(side)

  def pasted(row, column):
    pixel = np.array([row, column])
    return ((box[..., 0] <= pixel) & (pixel < box[..., 1])).all(1).mean()

  middle, last = side // 2, side - 1
  assert abs(pasted(middle, middle) - centre) < 0.007
  # The box stops before centre + half: the first corner is likelier.
  corners = [pasted(0, 0), pasted(0, last), pasted(last, 0), pasted(last, last)]
  assert abs(pasted(0, 0) - corner) < 0.006, f'corners: {corners}'
  assert max(corners) - min(corners) < 0.03


@pytest.mark.parametrize('side', [32])
def test_distribution_against_an_independent_simulation(side):
  rng = np.random.default_rng(1)
  centre = rng.integers(0, side, (MANY, 2))
  want, _ = reference.cut_box(rng.random(MANY), centre, (side, side))
  box, lam = boxes(side)
  fraction = reference.box_fraction(want, (side, side))
  p = reference.p_value(stats.ks_2samp(1 - lam, fraction))
  assert p > 1e-4, f'label weights have another distribution (p={p:.1e})'
  for axis in range(2):
    for end in range(2):
      counts = [
        np.bincount(b[:, axis, end], minlength=side + 1) for b in (box, want)
      ]
      used = np.sum(counts, 0) > 0
      p = reference.p_value(stats.chi2_contingency(np.array(counts)[:, used]))
      assert p > 1e-4, (
        f'axis {axis}, end {end}: another distribution (p={p:.1e})'
      )


def test_one_box_per_batch_has_the_same_distribution():
  draw = functools.partial(jaxmix.draw_cutmix, shape=(2, 32, 32, 1))
  keys = jax.random.split(jax.random.key(2), 20_000)
  mixes = drawn.quick(jax.vmap(draw))(keys)
  box, lam = np.asarray(mixes.box), np.asarray(mixes.lam)
  assert (box[:, 0] == box[:, 1]).all(), 'a batch has more than one box'
  p = reference.p_value(stats.ks_2samp(lam[:, 0], boxes(32)[1]))
  assert p > 1e-4, f'per batch and per sample differ (p={p:.1e})'


def test_boxes_of_a_batch_are_independent():
  box, lam = boxes(32)
  for name, value in {
    'lam': lam,
    'first row': box[:, 0, 0],
    'first column': box[:, 1, 0],
  }.items():
    r = np.corrcoef(value[:-1], value[1:])[0, 1]
    assert abs(r) * np.sqrt(MANY) < 4.5, (
      f'{name} of neighbouring samples correlates ({r:.4f})'
    )


def test_alpha_reaches_the_ratio(monkeypatch):
  # A Beta that returns its parameter shows which alpha was used.
  monkeypatch.setattr(
    ratio, 'beta_of', lambda u, v, alpha: jnp.full(u.shape, alpha)
  )
  draw = functools.partial(
    jaxmix.draw_cutmix,
    shape=(500, 32, 32, 1),
    alpha=0.75,
    granularity='sample',
  )
  lam = np.asarray(drawn.quick(draw)(jax.random.key(4)).lam)
  assert lam.min() == 0.75 and lam.max() < 1, (
    'boxes are not those of the ratio drawn, clipped at the border'
  )


# --- Bounds of the share ---

BOUNDS = [(0, 0.5), (0.1, 0.3), (0.25, 0.25), (0.3, 0.3), (0.6, 1), (0, 0)]


@pytest.mark.parametrize('bounds', BOUNDS)
@pytest.mark.parametrize(
  'spatial_shape', [(32, 32), (7, 96), (21,), (6, 9, 5), (1, 8)]
)
def test_shares_lie_within_bounds_if_whole_pixels_can(spatial_shape, bounds):
  low, high = bounds
  side = share_sides(spatial_shape, low, high)
  assert (side >= 0).all() and (side <= spatial_shape).all()
  share = side.prod(1) / np.prod(spatial_shape)
  assert (np.diff(share) >= 0).all()
  every = np.indices(np.add(spatial_shape, 1)).reshape(len(spatial_shape), -1)
  possible = every.prod(0) / np.prod(spatial_shape)
  allowed = 0.0
  if not ((low <= possible) & (possible <= high)).any():
    allowed = 0.5 / min(spatial_shape)
  assert (share >= low - allowed).all() and (share <= high + allowed).all()


@functools.cache
def bounded():
  draw = functools.partial(
    jaxmix.draw_cutmix,
    shape=(20_000, 32, 32, 1),
    min_share=0.1,
    max_share=0.3,
    granularity='sample',
    pairing='roll',
  )
  mix = drawn.quick(draw)(jax.random.key(7))
  return np.asarray(mix.box), np.asarray(mix.lam)


def test_boxes_with_bounds_lie_inside():
  box, lam = bounded()
  side = box[..., 1] - box[..., 0]
  assert (box >= 0).all() and (box <= 32).all() and (side > 0).all()
  share = side.prod(1) / 32**2
  np.testing.assert_allclose(lam, 1 - share, atol=1e-6)
  assert share.min() >= 0.1 and share.max() <= 0.3


def test_shares_within_bounds_are_those_of_the_ratio():
  box, lam = bounded()
  share = 1 - lam
  # Uniform in the bounds; a box is at most half a row away from its share.
  expected = 0.1 + 0.2 * (np.arange(len(share)) + 0.5) / len(share)
  np.testing.assert_allclose(np.sort(share), expected, atol=0.5 / 32 + 0.005)
  assert abs(share.mean() - 0.2) < 0.002  # five standard errors: 0.002
  rows, columns = (box[..., 1] - box[..., 0]).T
  assert (abs(rows - columns) <= 1).all(), 'not the proportions of the image'
  assert abs((rows > columns).sum() / (rows != columns).sum() - 0.5) < 0.05
  for side, axis in ((rows, 0), (columns, 1)):
    start = box[side == 14, axis, 0]
    p = stats.chisquare(np.bincount(start, minlength=32 - 14 + 1)).pvalue
    assert p > 1e-4, f'axis {axis}: positions are not uniform (p={p:.1e})'


def test_bounds_that_exclude_nothing_change_no_bit():
  key, shape = jax.random.key(3), (6, 9, 12, 1)
  plain = jaxmix.draw_cutmix(key, shape)
  named = jaxmix.draw_cutmix(key, shape, min_share=0, max_share=1.0)
  np.testing.assert_array_equal(plain.box, named.box)
  # The partners do not depend on the bounds.
  other = jaxmix.draw_cutmix(key, shape, max_share=0.5)
  np.testing.assert_array_equal(plain.partner, other.partner)


def test_bounds_reach_the_function_and_the_candidate():
  images = np.repeat(np.arange(6, dtype=np.float32), 81).reshape(6, 9, 9, 1)
  key = jax.random.key(5)
  options = {'min_share': 0.2, 'max_share': 0.4, 'pairing': 'roll'}
  mixed, labels = jaxmix.cutmix(
    key, images, np.arange(6), num_classes=6, **options
  )
  share = np.mean(np.asarray(mixed) != images, axis=(1, 2, 3))
  assert ((share >= 0.2) & (share <= 0.4)).all()
  own = np.asarray(labels)[np.arange(6), np.arange(6)]
  np.testing.assert_allclose(own, 1 - share, atol=1e-6)
  draw = functools.partial(jaxmix.draw_cutmix, min_share=0.2, max_share=0.4)
  mix = jaxmix.draw_random_mix(key, images.shape, candidates=(draw,))
  own_key = jax.random.fold_in(key, 1)
  want = jaxmix.draw_cutmix(own_key, images.shape, min_share=0.2, max_share=0.4)
  np.testing.assert_array_equal(mix.box, want.box)


@pytest.mark.parametrize(
  'options, error, words',
  [
    ({'min_share': -0.1}, ValueError, r'min_share=-0\.1'),
    ({'max_share': 1.5}, ValueError, r'max_share=1\.5'),
    ({'min_share': 0.4, 'max_share': 0.3}, ValueError, r'min_share=0\.4.*0\.3'),
    ({'max_share': float('nan')}, ValueError, 'max_share=nan'),
    ({'min_share': '0.1'}, TypeError, "min_share='0.1'"),
  ],
)
def test_invalid_bounds_are_refused(options, error, words):
  with pytest.raises(error, match=words):
    jaxmix.draw_cutmix(jax.random.key(0), (4, 8, 8, 3), **options)


def test_traced_bounds_are_refused():
  def draw(bound):
    return jaxmix.draw_cutmix(
      jax.random.key(0), (4, 8, 8, 3), max_share=bound
    ).lam

  with pytest.raises(TypeError, match='max_share'):
    jax.eval_shape(draw, jnp.float32(0.5))
