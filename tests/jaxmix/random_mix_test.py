"""Tests of RandomMix: the choice of a mode, and the compiled program."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxmix
from jaxmix._src import ratio
from jaxmix._src.mixup import draw_mixup
from jaxmix._src.start import more_numbers, start_draw
from tests.jaxmix import drawn, reference
from tests.jaxmix.drawn import GRANULARITIES, MODES

MANY = 20_000
SMALL = (8, 8, 1)


def one_hot(mode):
  return tuple(float(mode == m) for m in MODES)


@functools.cache
def both_ways():
  """Draws each mode by itself and as RandomMix's only choice, with one key."""
  shape, key = drawn.IMAGES, jax.random.key(5)
  options = {
    'cutmix': {'pairing': 'roll', 'granularity': 'sample'},
    'resizemix': {'scale': (0.2, 0.6), 'pairing': 'derangement'},
    'fmix': {
      'spectrum': 'official',
      'decay_power': 2.0,
      'granularity': 'sample',
    },
    'mixup': {'pairing': 'flip'},
  }

  # Two programs: in one, XLA would compute equal expressions only once.
  def alone(key):
    return {
      mode: drawn.DRAW[mode](key, shape, **options[mode]) for mode in MODES
    }

  def chosen(key):
    return {
      mode: jaxmix.draw_random_mix(
        key, shape, weights=one_hot(mode), **options[mode]
      )
      for mode in MODES
    }

  return drawn.quick(alone)(key), drawn.quick(chosen)(key)


@pytest.mark.parametrize('mode', MODES)
def test_one_weight_is_that_mode_bit_for_bit(mode):
  alone, chosen = (way[mode] for way in both_ways())
  assert (np.asarray(chosen.mode) == MODES.index(mode)).all()
  for name in ('lam', 'partner', 'mask', 'box', 'source'):
    want, got = getattr(alone, name), getattr(chosen, name)
    assert jax.tree.structure(want) == jax.tree.structure(got), name
    jax.tree.map(np.testing.assert_array_equal, want, got)


def draw_small(key, weights, shape, granularity):
  mix = jaxmix.draw_random_mix(
    key, shape, weights=weights, granularity=granularity, pairing='roll'
  )
  return mix.mode, mix.lam


@functools.cache
def program(granularity):
  """One program for every list of weights: they are an argument."""
  if granularity == 'sample':
    draw = functools.partial(
      draw_small, shape=(MANY, *SMALL), granularity=granularity
    )
    return drawn.quick(draw)
  draw = functools.partial(
    draw_small, shape=(1, *SMALL), granularity=granularity
  )
  many = drawn.quick(jax.vmap(draw, in_axes=(0, None)))

  # Keys as a training loop makes them, one a step.
  def run(root, weights):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(root, jnp.arange(MANY))
    return [x[:, 0] for x in many(keys, weights)]

  return run


@functools.cache
def draws(granularity, weights):
  mode, lam = program(granularity)(jax.random.key(6), jnp.asarray(weights))
  return np.asarray(mode), np.asarray(lam)


PAPER = (3.0, 1.0, 1.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize('granularity', GRANULARITIES)
@pytest.mark.parametrize('weights', [PAPER, (0.01, 0.02, 0.03, 0.04)])
def test_modes_are_as_frequent_as_their_weights(weights, granularity):
  mode, _ = draws(granularity, weights)
  expected = np.array(weights) / np.sum(weights)
  p = reference.p_value(
    stats.chisquare(np.bincount(mode, minlength=4), MANY * expected)
  )
  assert p > 1e-4, (
    f'{np.bincount(mode, minlength=4) / MANY} instead of {expected} (p={p:.1e})'
  )


@pytest.mark.slow
@pytest.mark.parametrize('granularity', GRANULARITIES)
@pytest.mark.parametrize(
  'weights',
  [
    (0.0, 1.0, 1.0, 1.0),
    (1.0, 1.0, 1.0, 0.0),
    (0.0, 0.0, 0.3, 0.0),
    (1e-3, 0.0, 0.0, 7.0),
    (0.1, 0.2, 0.0, 0.0),
  ],
)
def test_weight_zero_is_never_drawn(weights, granularity):
  mode, _ = draws(granularity, weights)
  forbidden = np.flatnonzero(np.array(weights) == 0)
  assert not np.isin(mode, forbidden).any(), 'a mode of weight 0 was drawn'


@pytest.mark.parametrize('granularity', GRANULARITIES)
def test_lambda_does_not_know_the_mode(granularity):
  # Were one random number used for both, lambda given 'mixup' would not be
  # uniform; the marginals alone would not show it.
  mode, lam = draws(granularity, PAPER)
  p = reference.p_value(stats.kstest(lam[mode == 0], 'uniform'))
  assert p > 1e-4, f'lambda depends on the choice of the mode (p={p:.1e})'


def test_modes_do_not_know_the_step():
  mode, lam = draws('batch', PAPER)
  table = [np.bincount(mode[parity::2], minlength=4) for parity in (0, 1)]
  p = reference.p_value(stats.chi2_contingency(table))
  assert p > 1e-4, f'even and odd steps differ (p={p:.1e})'
  check_neighbours(mode, lam)


def check_neighbours(mode, lam):
  table = np.zeros((4, 4))
  np.add.at(table, (mode[:-1], mode[1:]), 1)
  p = reference.p_value(stats.chi2_contingency(table))
  assert p > 1e-4, f'the mode depends on the neighbour (p={p:.1e})'
  r = np.corrcoef(lam[:-1], lam[1:])[0, 1]
  assert abs(r) * np.sqrt(MANY) < 4.5, f'lambda depends on the neighbour: {r}'


def test_samples_are_independent():
  check_neighbours(*draws('sample', PAPER))


@pytest.mark.parametrize('mode', range(4), ids=MODES)
def test_samples_have_the_distribution_of_batches(mode):
  (batch_mode, batch_lam), (sample_mode, lam) = (
    draws(g, PAPER) for g in GRANULARITIES
  )
  p = reference.p_value(
    stats.ks_2samp(batch_lam[batch_mode == mode], lam[sample_mode == mode])
  )
  assert p > 1e-4, f'lambda per sample has another distribution (p={p:.1e})'


def test_scaled_weights_are_the_same_draw():
  base = draws('sample', PAPER)
  twice = draws('sample', tuple(2 * w for w in PAPER))
  np.testing.assert_array_equal(base[0], twice[0])


# Cheap candidates from here on: the choice is the same code for all.
CHEAP = ('identity', 'mixup', 'identity', 'mixup')


@pytest.mark.slow
@pytest.mark.parametrize(
  'granularity', ['batch', pytest.param('sample', marks=pytest.mark.slow)]
)
def test_known_weights_choose_as_traced_ones(granularity):
  weights = (1.0, 0.0, 2.0, 1.5)  # known zeros are left out of the program
  shape = (50, 4, 4, 1)

  def draw(key, weights):
    return jaxmix.draw_random_mix(
      key, shape, candidates=CHEAP, weights=weights, granularity=granularity
    )

  @drawn.quick
  def both(keys, traced):
    known = jax.lax.map(lambda key: draw(key, weights), keys)
    return known, jax.lax.map(lambda key: draw(key, traced), keys)

  known, traced = both(
    jax.random.split(jax.random.key(7), 200), jnp.asarray(weights)
  )
  assert set(np.unique(known.mode)) == {0, 2, 3}
  np.testing.assert_array_equal(known.mode, traced.mode)
  np.testing.assert_array_equal(known.lam, traced.lam)


def test_the_weight_of_identity_is_the_fraction_left_unmixed():
  # prob=p of other libraries; one of them squares it (kornia#4649).
  draw = functools.partial(
    jaxmix.draw_random_mix,
    shape=(MANY, 2, 2, 1),
    candidates=('identity', 'mixup'),
    weights=(0.7, 0.3),
    granularity='sample',
    pairing='roll',
  )
  mix = drawn.quick(draw)(jax.random.key(8))
  mixed = np.asarray(mix.lam) < 1
  np.testing.assert_array_equal(mixed, np.asarray(mix.mode) == 1)
  error = np.sqrt(0.3 * 0.7 / MANY)
  assert abs(mixed.mean() - 0.3) < 4.5 * error


def left_half(key, shape, *, granularity, partner):
  """Keeps the left half; returns sample 0 as every partner."""
  assert partner.shape == shape[:1]
  assert granularity in GRANULARITIES and jnp.issubdtype(
    key.dtype, jax.dtypes.prng_key
  )
  batch, height, width, _ = shape
  mask = jnp.arange(width) < width // 2
  return jaxmix.Mix(
    lam=jnp.full(batch, (width // 2) / width),
    partner=jnp.zeros(batch, jnp.int32),
    mode=jnp.full(batch, 9, jnp.int32),
    mask=jnp.broadcast_to(mask, (1, height, width)),
  )


@pytest.mark.parametrize('granularity', GRANULARITIES)
@pytest.mark.parametrize('candidates', [(left_half,), ('identity', left_half)])
def test_your_own_candidate(candidates, granularity):
  shape = (6, 4, 6, 1)
  index = candidates.index(left_half)
  images = jnp.broadcast_to(jnp.arange(6.0)[:, None, None, None], shape)

  def run(key):
    mix = jaxmix.draw_random_mix(
      key, shape, candidates=candidates, granularity=granularity
    )
    return mix, jaxmix.apply(mix, images)

  keys = jax.random.split(jax.random.key(9), 60)
  mixes, out = drawn.quick(lambda keys: jax.lax.map(run, keys))(keys)
  partner, mode = np.asarray(mixes.partner), np.asarray(mixes.mode)
  assert (np.sort(partner, 1) == np.arange(6)).all(), (
    "the candidate's partner was taken instead of the pairing's"
  )
  mine = mode == index
  assert mine.any() and mode.max() < len(candidates)
  out = np.asarray(out)[..., 0]
  own = np.broadcast_to(np.arange(6)[None], mode.shape)
  want = np.empty((*mode.shape, 4, 6))
  want[..., :3], want[..., 3:] = (x[..., None, None] for x in (own, partner))
  np.testing.assert_array_equal(out[mine], want[mine])
  assert (np.asarray(mixes.lam)[mine] == 0.5).all()


def test_a_candidate_listed_twice_is_two_candidates():
  draw = functools.partial(
    jaxmix.draw_random_mix,
    shape=(3000, 2, 2, 1),
    candidates=('mixup', draw_mixup, 'mixup'),
    granularity='sample',
  )
  mode = np.asarray(drawn.quick(draw)(jax.random.key(10)).mode)
  assert (
    reference.p_value(stats.chisquare(np.bincount(mode, minlength=3))) > 1e-4
  )


ALPHAS = {
  'one for all': (0.75, {'mixup': 0.75, 'cutmix': 0.75, 'fmix': 0.75}),
  'by mode': ({'fmix': 0.5, 'cutmix': 0.75}, {'fmix': 0.5, 'cutmix': 0.75}),
}


@pytest.fixture(scope='module')
def draws_by_alpha():
  """Draws where Beta(a, a) is always a: lambda shows which alpha was asked."""

  def draw(key):
    return {
      name: jaxmix.draw_random_mix(
        key, (300, 16, 16, 1), alpha=alpha, granularity='sample'
      )
      for name, (alpha, _) in ALPHAS.items()
    }

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      ratio, 'beta_of', lambda u, v, alpha: jnp.full(u.shape, alpha)
    )
    return drawn.quick(draw)(jax.random.key(11))


@pytest.mark.slow
@pytest.mark.parametrize('name', ALPHAS)
def test_alpha_reaches_its_mode(draws_by_alpha, name):
  mix, (_, want) = draws_by_alpha[name], ALPHAS[name]
  lam, mode = np.asarray(mix.lam), np.asarray(mix.mode)
  for index, candidate in enumerate(MODES):
    seen = lam[mode == index]
    if candidate in want:
      # CutMix boxes are clipped at the border: only more may be kept.
      assert seen.min() == want[candidate], f'{candidate}: {seen.min()}'
      assert candidate == 'cutmix' or seen.max() == want[candidate]
    else:  # Beta(1, 1), or ResizeMix, which has no alpha
      assert len(set(seen.tolist())) > 10, f'{candidate} got an alpha'


def test_weights_by_mode():
  key, shape = jax.random.key(3), (6, 8, 8, 1)
  draw = drawn.quick(
    functools.partial(jaxmix.draw_random_mix, shape=shape),
    static_argnames='weights',
  )
  want = draw(key, weights=(3, 0, 0, 1))
  by_mode = drawn.quick(
    lambda key: jaxmix.draw_random_mix(
      key, shape, weights={'fmix': 1, 'mixup': 3}
    )
  )(key)
  jax.tree.map(np.testing.assert_array_equal, by_mode, want)


def test_a_candidate_is_told_the_partner():
  """A box that is drawn from the partner's saliency is at its peak."""
  saliency = jax.random.uniform(jax.random.key(4), (8, 9, 9))

  def own(key, shape, **options):
    return jaxmix.draw_saliency_mix(key, saliency, **options)

  peak = np.asarray(saliency).reshape(8, -1).argmax(1)
  peaks = np.stack(np.unravel_index(peak, (9, 9)), 1)

  @drawn.quick
  def draw(keys):
    every: list[dict[str, Any]] = [
      {'candidates': (own, 'mixup')},
      {'candidates': ('saliency_mix', 'mixup'), 'saliency': saliency},
    ]
    return jax.lax.map(
      lambda key: [
        jaxmix.draw_random_mix(
          key, (8, 9, 9, 3), pairing='derangement', **options
        )
        for options in every
      ],
      keys,
    )

  for mixes in draw(jax.random.split(jax.random.key(5), 40)):
    seen = 0
    for partner, mode, box in zip(
      *map(np.asarray, (mixes.partner, mixes.mode, mixes.box)), strict=True
    ):
      size = box[..., 1] - box[..., 0]
      pasted = (mode == 0) & (size > 0).all(-1)
      at = peaks[partner]
      inside = ((box[..., 0] <= at) & (at < box[..., 1])).all(-1)
      assert inside[pasted].all()
      seen += pasted.sum()
    assert seen > 50


def test_a_candidate_of_ones_own_has_its_own_numbers():
  """Its first number is not what chose it, nor what the partners are from."""

  def own(key, shape, *, granularity, partner):
    return jaxmix.Mix(lam=jax.random.uniform(key, shape[:1]), partner=partner)

  def draw(key):
    return jaxmix.draw_random_mix(
      key, (4, 4, 4, 1), candidates=('mixup', own), granularity='sample'
    )

  keys = jax.random.split(jax.random.key(6), 2000)
  mixes = jax.device_get(drawn.quick(lambda k: jax.lax.map(draw, k))(keys))
  lam, mode, partner = mixes.lam, mixes.mode, mixes.partner
  seen = lam[mode == 1]
  assert stats.kstest(seen, 'uniform').pvalue > 1e-4
  all_own = (mode == 1).all(1)
  assert all_own.sum() > 60
  same = (partner == np.argsort(lam, 1))[all_own].all(1)
  assert same.mean() < 0.2, 'the partners are in the order of lam'


@pytest.mark.parametrize(
  'returned, error, word',
  [
    (lambda shape: None, TypeError, 'Mix'),
    (lambda shape: jnp.ones(shape[:1]), TypeError, 'Mix'),
    (lambda shape: mix_of(jnp.float32(0.5), shape), ValueError, 'lam'),
    (lambda shape: mix_of(jnp.ones(1), shape), ValueError, 'lam'),
  ],
)
@pytest.mark.parametrize('others', [(), ('cutmix',)])
def test_what_a_candidate_returns_is_checked(returned, error, word, others):
  def mine(key, shape, *, granularity, partner):
    return returned(shape)

  with pytest.raises(error, match=f'candidate mine.*{word}'):
    jax.eval_shape(
      lambda key: jaxmix.draw_random_mix(
        key, (2, 4, 4, 1), candidates=(mine, *others)
      ),
      jax.random.key(0),
    )


def mix_of(lam, shape):
  return jaxmix.Mix(lam=lam, partner=jnp.zeros(shape[:1], jnp.int32))


@pytest.mark.parametrize('scale', [1e39, 1e-46])
def test_weights_beyond_float32(scale):
  draw = functools.partial(
    jaxmix.draw_random_mix,
    shape=(2, 4, 4, 1),
    candidates=('identity', 'mixup'),
    granularity='sample',
  )
  key = jax.random.key(7)
  got = draw(key, weights=(scale, scale)).mode
  np.testing.assert_array_equal(got, draw(key, weights=(1, 1)).mode)


@pytest.mark.parametrize('impl', ['rbg', 'threefry2x32'])
def test_other_random_numbers_give_numbers_once(impl):
  """Under `vmap`, where number i of another generator has no fixed place."""
  keys = jax.random.split(jax.random.key(8, impl=impl), 4)

  def numbers(key):
    start = start_draw(
      key,
      (4, 8, 8, 1),
      pairing='roll',
      granularity='sample',
      partner=None,
      last='angle',
    )
    more = more_numbers(key, (4, 8, 8, 1), 4, 64)
    return jnp.concatenate([start.ratio, start.position.ravel(), more])

  drawn_numbers = np.asarray(jax.vmap(numbers)(keys))
  assert len(np.unique(drawn_numbers)) == drawn_numbers.size


@pytest.mark.parametrize(
  'draw',
  [
    lambda key, shape, *, granularity: jaxmix.draw_identity(key, shape),
    lambda shape: shape,
  ],
)
def test_a_candidate_that_cannot_be_called(draw):
  with pytest.raises(TypeError, match='candidate .*partner'):
    jaxmix.draw_random_mix(
      jax.random.key(0), (2, 4, 4, 1), candidates=('mixup', draw)
    )


def test_saliency_mix_needs_a_saliency():
  with pytest.raises(ValueError, match='saliency=None'):
    jaxmix.draw_random_mix(
      jax.random.key(0), (2, 4, 4, 1), candidates=('saliency_mix',)
    )
  images, labels = jnp.ones((2, 8, 8, 1)), jnp.array([0, 1])
  _, mixed = jaxmix.random_mix(
    jax.random.key(0),
    images,
    labels,
    num_classes=2,
    candidates=('saliency_mix',),
  )
  np.testing.assert_allclose(mixed.sum(1), 1)


# The compiled program.

LARGE = (16, 24, 20, 3)


def call(key, images, labels, **options):
  return jaxmix.random_mix(key, images, labels, num_classes=10, **options)


ARGUMENTS = (
  jax.random.key(0),
  jax.ShapeDtypeStruct(LARGE, jnp.float32),
  jax.ShapeDtypeStruct(LARGE[:1], jnp.int32),
)


@functools.cache
def compiled_text(alpha=1.0, granularity='batch'):
  program = functools.partial(call, alpha=alpha, granularity=granularity)
  return drawn.quick(program).lower(*ARGUMENTS).compile().as_text() or ''


def test_one_switch_and_no_image_passes_through_it():
  lines = [x for x in compiled_text().splitlines() if ' conditional(' in x]
  assert len(lines) == 1, f'{len(lines)} conditionals in the compiled program'
  result = lines[0].split(' conditional(')[0].split('=', 1)[1]
  sizes = [
    np.prod([int(n) for n in dims.split(',') if n])
    for dims in re.findall(r'[a-z]+\d*\[([\d,]*)\]', result)
  ]
  assert sizes and max(sizes) < np.prod(LARGE[:-1]), (
    f'a branch returns as much as the images: {result}'
  )


def uncounted_loops(text):
  """While loops whose number of rounds XLA does not know.

  On a CPU threefry is a loop, too, and so is FMix's bisection: both are counted
  loops, which XLA marks `known_trip_count`. A rejection sampler continues until
  every number is accepted, and cannot be marked.
  """
  loops = [x for x in text.splitlines() if re.search(r' while\(', x)]
  assert loops, 'the text of the program is not read rightly'
  return sum('known_trip_count' not in x for x in loops)


@pytest.mark.slow
@pytest.mark.parametrize('alpha', [1.0, 0.2])
def test_draws_without_rejection(alpha):
  assert uncounted_loops(compiled_text(alpha)) == 0
  # The test can see one: Beta of jax.random is built on the gamma sampler.
  rejects = drawn.quick(lambda key: jax.random.beta(key, 0.2, 0.2))
  assert uncounted_loops(
    rejects.lower(jax.random.key(0)).compile().as_text()
  ), 'this test no longer recognises a rejection sampler'


@pytest.mark.parametrize(
  'granularity', ['batch', pytest.param('sample', marks=pytest.mark.slow)]
)
def test_no_plane_is_sorted(granularity):
  text = compiled_text(0.2, granularity)
  sorts = [x for x in text.splitlines() if re.search(r' sort\(', x)]
  sizes = [
    max(
      np.prod([int(n) for n in dims.split(',') if n])
      for dims in re.findall(r'[a-z]+\d*\[([\d,]*)\]', line)
    )
    for line in sorts
  ]
  assert sizes, 'the partners are drawn by a sort: the text is not read rightly'
  # 16 partners; a plane has 480 pixels.
  assert max(sizes) <= LARGE[0], f'as many as {max(sizes)} values are sorted'


def test_works_where_float64_is_enabled():
  with jax.enable_x64(True):
    draw = functools.partial(
      jaxmix.draw_random_mix,
      shape=(3, 4, 4, 1),
      candidates=('identity', 'cutmix'),
    )
    mix = drawn.quick(draw)(jax.random.key(0))
  assert mix.lam.dtype == np.float32


@pytest.mark.parametrize('weights', [[0.0, 0.0], [1.0, np.nan], [2.0, -1.0]])
def test_invalid_traced_weights_give_nan(weights):
  draw = jax.jit(
    lambda weights: jaxmix.draw_random_mix(
      jax.random.key(0),
      (4, 8, 8, 1),
      candidates=('mixup', 'cutmix'),
      weights=weights,
    )
  )
  assert np.isnan(draw(jnp.array(weights)).lam).all()


@pytest.mark.parametrize('mode', ['cutmix', 'fmix'])
def test_a_traced_alpha_out_of_range_gives_nan(mode):
  draw = jax.jit(
    lambda alpha: getattr(jaxmix, f'draw_{mode}')(
      jax.random.key(0), (2, 4, 4, 1), alpha=alpha
    )
  )
  assert np.isnan(draw(-1.0).lam).all(), 'it would train on wrong labels'
