"""Tests of the mixing ratio over the valid steps of padded sequences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from tests.jaxmix import drawn, reference
from tests.jaxmix.drawn import GRANULARITIES, MODES

LENGTHS = {
  'images': np.array([9, 1, 4, 6, 2, 9, 5]),  # of 9 rows
  'series': np.array([21, 3, 1, 14, 8]),
}
MIX = jaxmix.Mix(
  lam=jnp.array([0.5, 0.5, 0.5]),
  partner=jnp.array([1, 0, 2]),
  box=jnp.array([[[2, 6]]] * 3),
  spatial_shape=(8,),
)


def count(mix, lengths):
  return jaxmix.with_lengths(mix, lengths).lam


ratios = drawn.quick(count)
ratios_of_draws = drawn.quick(jax.vmap(count, in_axes=(0, None)))


def counted(mix, lengths, spatial_shape):
  """The valid pixels of both samples, by numpy; `lam` is their ratio."""
  weight = reference.own_weight(mix, spatial_shape)
  weight = np.broadcast_to(weight, (len(lengths), *spatial_shape))
  partner, lam = np.asarray(mix.partner), []
  for i in range(len(lengths)):
    own = other = 0.0
    for pixel in np.ndindex(*spatial_shape):
      source = pixel[0]
      if mix.source is not None:
        source = int(mix.source[0][i, pixel[0]])
      own += weight[i][pixel] * (pixel[0] < lengths[i])
      other += (1 - weight[i][pixel]) * (source < lengths[partner[i]])
    lam.append(own / (own + other) if own + other else 1.0)
  return lam


def check_counts(mixes, name):
  shape = drawn.SHAPES[name]
  got = np.asarray(ratios_of_draws(mixes, LENGTHS[name]))
  mixed = 0
  for draw in range(4):
    mix = drawn.one_draw(mixes, draw)
    want = counted(mix, LENGTHS[name], shape[1:-1])
    np.testing.assert_allclose(got[draw], want, atol=1e-6)
    mixed += (np.abs(want - np.asarray(mix.lam)) > 1e-3).sum()
  assert mixed > 4, 'no ratio depends on the lengths'


@pytest.mark.parametrize('granularity', GRANULARITIES)
@pytest.mark.parametrize('mode', MODES)
def test_lam_is_the_count_of_valid_pixels(mode, granularity):
  mixes = drawn.modes()[mode, granularity]
  if mode == 'mixup':
    # Its ratio is the same at every step: it needs no number of steps.
    assert mixes.spatial_shape is None
  check_counts(mixes, 'images')


def test_known_lengths_give_the_same():
  want = ratios(MIX, np.array([4, 8, 3]))
  got = jaxmix.with_lengths(MIX, np.array([4, 8, 3])).lam
  np.testing.assert_array_equal(got, want)


def test_lam_of_sequences_is_the_count_of_valid_steps():
  check_counts(drawn.random_masks('series', 'sample'), 'series')


@pytest.mark.parametrize('mode', MODES)
def test_whole_lengths_change_nothing(mode):
  mixes = drawn.modes()[mode, 'sample']
  got = ratios_of_draws(mixes, np.full(7, 9))
  np.testing.assert_allclose(got, mixes.lam, atol=1e-6)


def test_what_is_not_mixed_keeps_its_label():
  mix = jaxmix.draw_identity(jax.random.key(0), (2, 8, 1))
  assert ratios(mix, np.array([1, 8])).tolist() == [1, 1]
  # A mask that shows the padding of both: nothing is left to count.
  hidden = jaxmix.Mix(
    lam=jnp.array([0.5, 0.5]),
    partner=jnp.array([1, 0]),
    mask=jnp.array([[False, True]] * 2),
    source=(jnp.array([[1, 1]] * 2),),
  )
  assert ratios(hidden, np.array([1, 1])).tolist() == [1, 1]


def test_frames_of_a_video_count_alike():
  # The same box in every frame: the ratio depends on the lengths alone.
  shape = (4, 6, 8, 8, 3)
  lengths = np.array([6, 3, 1, 2])

  @drawn.quick
  def draw(key):
    mix = jaxmix.draw_cutmix(
      key, shape, spatial_axes=(2, 3), granularity='sample'
    )
    return mix, jaxmix.with_lengths(mix, lengths).lam

  mix, got = draw(jax.random.key(1))
  own = mix.lam * lengths
  other = (1 - mix.lam) * lengths[np.asarray(mix.partner)]
  np.testing.assert_allclose(got, own / (own + other), rtol=1e-6)


@pytest.mark.parametrize(
  'lengths, error, word',
  [
    ([8, 8, 8], TypeError, 'list'),
    (np.array([8, 8]), ValueError, r'\[3\].*\[2\]'),
    (np.array([8, 8, 8.0]), ValueError, 'float64'),
    (np.array([8, 0, 8]), ValueError, 'from 1 to 8.*0'),
    (np.array([8, 9, 8]), ValueError, 'from 1 to 8.*9'),
  ],
)
def test_invalid_lengths(lengths, error, word):
  with pytest.raises(error, match=f'lengths.*{word}'):
    jaxmix.with_lengths(MIX, lengths)


@pytest.mark.parametrize('bad', [0, 9])
def test_traced_lengths_out_of_range_are_nan(bad):
  got = ratios(MIX, np.array([4, bad, 4]))
  assert np.isnan(np.asarray(got)).tolist() == [True, True, False]


def test_an_invalid_draw_stays_invalid():
  mix = dataclasses.replace(MIX, lam=jnp.full(3, jnp.nan))
  assert np.isnan(ratios(mix, np.array([4, 4, 4]))).all()


def test_draws_without_steps_are_refused():
  unknown = dataclasses.replace(MIX, spatial_shape=None)
  with pytest.raises(ValueError, match=r'spatial_shape=images\.shape'):
    jaxmix.with_lengths(unknown, jnp.array([4, 4, 4]))
  moved = dataclasses.replace(MIX, order=jnp.zeros((3, 2, 2, 2), int))
  with pytest.raises(ValueError, match='order'):
    jaxmix.with_lengths(moved, jnp.array([4, 4, 4]))


@pytest.mark.parametrize('mode', MODES)
def test_strict_promotion(mode):
  mix = drawn.one_draw(drawn.modes()[mode, 'sample'], 0)
  with jax.numpy_rank_promotion('raise'), jax.numpy_dtype_promotion('strict'):
    assert jax.eval_shape(count, mix, LENGTHS['images']).shape == (7,)
