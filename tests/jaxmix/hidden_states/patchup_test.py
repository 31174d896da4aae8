"""Tests of PatchUp: the layer, the blocks and the weights."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import jaxmix
from tests.jaxmix import drawn

SHAPES = {0: (4, 12, 12, 3), 1: (4, 12, 12, 6), 2: (4, 9, 12, 2)}
MANY = 600
CASES = {
  'hard': {'hard': True, 'probability': 0.7, 'gamma': 0.5, 'block_size': 5},
  'soft': {'block_size': 5},
}
every_case = pytest.mark.parametrize('case', CASES)


@functools.cache
def draws(case):
  """`MANY` draws, stacked."""

  def draw(key):
    return jaxmix.draw_patchup(key, SHAPES, **CASES[case])

  keys = jax.random.split(jax.random.key(1), MANY)
  return jax.tree.map(
    np.asarray, drawn.quick(lambda keys: jax.lax.map(draw, keys))(keys)
  )


# --- The layer ---


@pytest.mark.slow
@every_case
def test_the_layer_is_uniform_and_the_probability_that_of_the_option(case):
  probability = CASES[case].get('probability', 1.0)
  mix = draws(case)
  counts = [np.sum(mix.layer == k) for k in (-1, *SHAPES)]
  assert sum(counts) == MANY
  expected = [1 - probability] + [probability / 3] * 3
  if probability == 1:
    assert counts.pop(0) == 0
    expected.pop(0)
  expected = MANY * np.array(expected)
  assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


def test_nothing_is_mixed_with_probability_0():
  draw = drawn.quick(
    lambda key: jaxmix.draw_patchup(key, {1: (4, 9, 9, 2)}, probability=0.0)
  )
  for seed in range(20):
    mix = draw(jax.random.key(seed))
    assert mix.layer == -1 and (mix.lam == 1).all()


# --- The blocks ---


def covered(case, k):
  """Which units have not their own weight, `[MANY, H, W, C]`."""
  return draws(case).weights[k] != 1


def windows(shape, size):
  """The blocks of a channel, cut off at the border: a list of slices."""
  half = size // 2
  return [
    (
      slice(max(y - half, 0), y + half + 1),
      slice(max(x - half, 0), x + half + 1),
    )
    for y in range(shape[0])
    for x in range(shape[1])
  ]


@every_case
@pytest.mark.parametrize('k', [1, 2])
def test_blocks_are_whole(case, k):
  blocks = np.moveaxis(covered(case, k)[:40], 3, 1).reshape(-1, *SHAPES[k][1:3])
  some = 0
  for mask in blocks:
    union = np.zeros_like(mask)
    for window in windows(mask.shape, 5):
      if mask[window].all():
        union[window] = True
    np.testing.assert_array_equal(union, mask)
    some += 0 < mask.mean() < 1
  assert some > len(blocks) / 4, 'masks are all empty or full'


@every_case
@pytest.mark.parametrize('k', [1, 2])
def test_units_are_covered_with_the_probability_of_the_rate(case, k):
  blocks = covered(case, k)
  _, height, width, channels = SHAPES[k]
  gamma = CASES[case].get('gamma', 0.75)
  # DropBlock's rate of middles; blocks may have theirs on any unit.
  rate = gamma * height * width / (5**2 * (height - 4) * (width - 4))
  reach = np.zeros((height, width))
  for window in windows((height, width), 5):
    reach[window] += 1
  expected = 1 - (1 - rate) ** reach
  count = MANY * channels
  observed = blocks.mean((0, 3))
  # Five standard errors: 252 units.
  assert (
    np.abs(observed - expected) < 5 * np.sqrt(expected * (1 - expected) / count)
  ).all()
  # gamma is about the fraction that is covered; at worst .18 too low here.
  assert abs(expected.mean() - gamma) < 0.2


def test_channels_have_blocks_of_their_own():
  blocks = covered('hard', 1)[:, 6, 6].astype(float)  # one unit, six channels
  correlation = np.corrcoef(blocks.T)[np.triu_indices(6, 1)]
  assert np.abs(correlation).max() < 5 / np.sqrt(MANY)


@every_case
def test_the_input_has_the_box_of_a_cutmix(case):
  mix = draws(case)
  weight = mix.weights[0]
  assert weight.shape == (MANY, 12, 12, 1) and set(np.unique(weight)) == {0, 1}
  box = weight[..., 0] == 0
  for mask in box:
    rows, columns = mask.any(1), mask.any(0)
    assert (mask == rows[:, None] & columns).all()
    assert (np.diff(rows.astype(int)) == 1).sum() <= 1
  cutmix = drawn.quick(
    lambda key: jaxmix.draw_cutmix(key, (5000, 12, 12, 1), granularity='sample')
  )(jax.random.key(2))
  lam = weight.mean((1, 2, 3))
  same: Any = scipy.stats.ks_2samp(lam, np.asarray(cutmix.lam))
  assert same.pvalue > 1e-3


# --- The weights ---


def test_hard_blocks_are_swapped():
  for weight in draws('hard').weights.values():
    assert set(np.unique(weight)) == {0, 1}


def test_soft_blocks_have_one_weight_from_a_beta_distribution():
  mix = draws('soft')
  ratio = {}
  for k in (1, 2):
    flat = mix.weights[k].reshape(MANY, -1)
    ratio[k] = flat.min(1)
    assert ((flat == 1) | (flat == ratio[k][:, None])).all()
  some = (ratio[1] < 1) & (ratio[2] < 1)
  np.testing.assert_array_equal(ratio[1][some], ratio[2][some])
  beta = scipy.stats.beta(2, 2)
  assert scipy.stats.kstest(ratio[1][some], beta.cdf).pvalue > 1e-3


@every_case
def test_lambda_is_the_mean_weight_of_the_layer_that_is_mixed(case):
  mix = draws(case)
  for i, layer in enumerate(mix.layer):
    mean = 1 if layer == -1 else np.mean(mix.weights[layer][i], dtype=float)
    np.testing.assert_allclose(mix.lam[i], mean, rtol=1e-6)


@every_case
def test_twice_the_cross_entropy_is_the_loss_of_the_paper(case):
  # Its three terms in float64, from the masks: the swapped or blended label
  # for the share of the blocks, the own one for the rest; then both at once.
  rng = np.random.default_rng(0)
  logits, labels = rng.normal(size=(4, 5)), np.array([0, 3, 3, 1])
  log_probs = scipy.special.log_softmax(logits, axis=1)
  own = np.eye(5)[labels]
  mix = draws(case)
  seen = set()
  for i in range(20):
    one = drawn.one_draw(mix, i)
    k = int(one.layer)
    if k == -1:
      continue
    seen.add(k)
    weight = np.asarray(one.weights[k], float)
    p = np.mean(weight == 1)
    lam = 0 if k == 0 else weight.min()  # a box is swapped
    other = lam * own + (1 - lam) * own[one.partner]
    both = p * own + (1 - p) * other

    def entropy(targets):
      return -np.sum(targets * log_probs, axis=1)

    expected = p * entropy(own) + (1 - p) * entropy(other) + entropy(both)
    one = jax.tree.map(jnp.asarray, one)
    found = jaxmix.mixed_cross_entropy(logits, labels, one)
    np.testing.assert_allclose(2 * found, expected, rtol=1e-5)
  assert seen == {0, 1, 2}


# --- Mistakes ---


@pytest.mark.parametrize(
  'options, message',
  [
    ({'probability': 1.1}, r'probability=1\.1'),
    ({'probability': float('nan')}, r'probability=nan'),
    ({'gamma': -0.1}, r'gamma=-0\.1'),
    ({'block_size': 4}, 'block_size=4'),
    ({'block_size': 0}, 'block_size=0'),
    ({'block_size': 3.0}, r'block_size=3\.0'),
    ({'block_size': 11}, 'block_size=11.*layer 2'),
    ({'alpha': 0.0}, r'alpha=0\.0'),
    ({'pairing': 'dice'}, r"pairing='dice'"),
  ],
)
def test_invalid_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    jaxmix.draw_patchup(jax.random.key(0), SHAPES, **options)


@pytest.mark.parametrize(
  'shapes, message',
  [
    ({}, r'layers='),
    ({-1: (4, 9, 9, 1)}, r'layers='),
    ({1: (4, 9)}, r'\[4, 9\]'),
    ({1: (4, 9, 9, 1), 2: (5, 9, 9, 1)}, r'shapes.*\[5, 9, 9, 1\]'),
  ],
)
def test_invalid_shapes_are_refused(shapes, message):
  with pytest.raises(ValueError, match=message):
    jaxmix.draw_patchup(jax.random.key(0), shapes)
