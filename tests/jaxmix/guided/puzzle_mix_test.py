"""Tests of Puzzle Mix: the costs, the mask and the moved blocks."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxmix
from jaxmix._src.guided.graph_cut import energy
from jaxmix._src.guided.puzzle_costs import mask_costs
from tests.jaxmix import drawn, reference

SHAPE = (6, 16, 16, 3)
BATCH = SHAPE[0]
OPTIONS = {'label_smoothness': 1.2, 'data_smoothness': 0.5, 'prior': 0.2}


def some_images(seed=0, shape=SHAPE):
  """Returns smooth images, whose neighbouring blocks are similar."""
  rng = np.random.default_rng(seed)
  coarse = rng.random((shape[0], 4, 4, shape[3]))
  fine = np.repeat(np.repeat(coarse, shape[1] // 4, 1), shape[2] // 4, 2)
  noisy = 255 * (0.8 * fine + 0.2 * rng.random(shape))
  return noisy.astype(np.uint8)


def some_saliency(seed=1, shape=SHAPE):
  rng = np.random.default_rng(seed)
  return (rng.gamma(1, 1, shape[:3]) ** 2).astype(np.float32)


IMAGES, SALIENCY = some_images(), some_saliency()


@functools.cache
def drawer(**options):
  """Jitted, and compiled once for each set of options."""
  return drawn.quick(functools.partial(jaxmix.draw_puzzle_mix, **options))


def draw(seed, transport_cost: float | None = 0.8, images=IMAGES):
  """Most tests look at these: compiled twice in all."""
  function = drawer(
    blocks=(4,), granularity='sample', transport_cost=transport_cost
  )
  return function(jax.random.key(seed), SALIENCY, images)


# --- What a mask costs ---


def numpy_energy(images, saliency, partner, lam, z, levels):
  """Puzzle Mix by the paper and its code, in float64, pair by pair.

  The smoothness of the data is bilinear in z. The published code writes it as
  a square of a difference and linear terms: the same, for z of 0 and 1, but for
  a number that does not depend on z.
  """
  count, n, _ = z.shape
  total = np.zeros(count)
  size = images.shape[1] // n
  deep = max(d for d in (1, 2, 3, 4) if size % d == 0)
  x = images.astype(float) / 255
  unit = 1.2 / (16 * n)
  for b in range(count):
    pair = [x[b], x[partner[b]]]
    fraction = []
    for s in (saliency[b], saliency[partner[b]]):
      blocks = s.astype(float).reshape(n, size, n, size).mean((1, 3))
      fraction.append(blocks / blocks.sum())
    total[b] += np.sum((1 - z[b]) * fraction[0] + z[b] * fraction[1])
    for value in z[b].ravel():
      k = round(value * (levels - 1))
      likelihood = stats.binom.pmf(k, levels - 1, lam[b])
      total[b] -= 0.2 / n**2 * np.log(likelihood)

    def strip(image, i, j, axis, last):
      """The pooled pixels of a block along one of its sides."""
      block = image[i * size : (i + 1) * size, j * size : (j + 1) * size]
      if axis:
        block = block.swapaxes(0, 1)
      rows = block[size - deep :] if last else block[:deep]
      return rows.reshape(deep, size // deep, deep, -1).mean((0, 2))

    for i, j, axis in itertools.product(range(n), range(n), (0, 1)):
      p, q = (i + 1, j) if axis == 0 else (i, j + 1)
      if p == n or q == n:
        continue
      first, second = z[b, i, j], z[b, p, q]
      difference = np.array(
        [
          [
            np.abs(
              strip(one, i, j, axis, True) - strip(two, p, q, axis, False)
            ).mean()
            for two in pair
          ]
          for one in pair
        ]
      )
      weight = (
        difference[0, 1]
        + difference[1, 0]
        - difference[0, 0]
        - difference[1, 1]
      ) / 2
      linear = (
        first * (difference[0, 1] + difference[0, 0])
        + (1 - first) * (difference[1, 0] + difference[1, 1])
        + second * (difference[1, 0] + difference[0, 0])
        + (1 - second) * (difference[0, 1] + difference[1, 1])
      ) / 2
      if levels == 2:
        bilinear = np.array([first, 1 - first]) @ difference
        bilinear = bilinear @ np.array([second, 1 - second])
        whole = weight * (first - second) ** 2 + linear
        constant = (difference[0, 1] + difference[1, 0]) / 2
        assert bilinear + constant == pytest.approx(whole)
      square = (first - second) ** 2
      total[b] += unit * square + 0.5 * unit * (weight * square + linear)
  return total


@pytest.mark.slow
@pytest.mark.parametrize(
  'levels, n', [(2, 4), (3, 2), pytest.param(2, 16, marks=pytest.mark.slow)]
)
def test_a_mask_costs_what_the_paper_says(levels, n):
  rng = np.random.default_rng(n)
  partner = np.array([3, 0, 2, 5, 1, 4])
  lam = rng.uniform(0.1, 0.9, BATCH).astype(np.float32)
  labels = rng.integers(0, levels, (BATCH, n, n))
  costs = jax.jit(
    functools.partial(mask_costs, count=n, levels=levels, **OPTIONS)
  )(SALIENCY, IMAGES, partner, lam)
  found = energy(costs, jnp.asarray(labels))
  z = labels / (levels - 1)
  want = numpy_energy(IMAGES, SALIENCY, partner, lam, z, levels)
  np.testing.assert_allclose(found, want, rtol=1e-4)


# --- Draws ---


@pytest.mark.parametrize('levels', [2, 3])
def test_the_mask_is_of_blocks_and_lam_its_mean(levels):
  mix = (
    draw(1)
    if levels == 3
    else drawer(blocks=(4,), levels=2)(jax.random.key(1), SALIENCY, IMAGES)
  )
  mask = np.asarray(mix.mask, np.float32)
  assert mask.shape == SHAPE[:3]
  assert mix.mask.dtype == (bool if levels == 2 else np.float32)
  assert set(np.unique(mask)) <= {0, 0.5, 1} and len(np.unique(mask)) > 1
  tiles = mask.reshape(BATCH, 4, 4, 4, 4)
  np.testing.assert_array_equal(tiles.max((2, 4)), tiles.min((2, 4)))
  np.testing.assert_allclose(mix.lam, mask.mean((1, 2)), atol=1e-6)
  order = np.asarray(mix.order)
  assert order.shape == (BATCH, 2, 8, 8) and order.dtype == np.int32
  want = np.broadcast_to(np.arange(64), (BATCH, 2, 64))
  np.testing.assert_array_equal(np.sort(order.reshape(BATCH, 2, 64), 2), want)


def test_the_mask_keeps_what_is_salient():
  # The image's left half, and the partner's right half, hold everything.
  saliency = np.zeros(SHAPE[:3], np.float32)
  saliency[::2, :, :8] = 1
  saliency[1::2, :, 8:] = 1
  flat = np.full(SHAPE, 128, np.uint8)
  mix = drawer(blocks=(4,), pairing='flip', transport_cost=None)(
    jax.random.key(0), saliency, flat
  )
  mask = np.asarray(mix.mask)
  assert mix.order is None
  left = np.arange(BATCH)[:, None, None] % 2 == 0
  want = np.broadcast_to((np.arange(16) < 8) == left, mask.shape)
  np.testing.assert_array_equal(mask, want)


@pytest.mark.slow
def test_a_strong_prior_gives_the_ratio_that_was_drawn():
  each = drawer(
    blocks=(2,), prior=1e4, granularity='sample', transport_cost=None
  )
  images, saliency = (
    some_images(2, (64, 16, 16, 1)),
    some_saliency(3, (64, 16, 16)),
  )
  mix = each(jax.random.key(2), saliency, images)
  lam = np.asarray(mix.lam)
  # The likeliest of three levels: 1/2 where the ratio is in (1/3, 2/3).
  assert set(np.round(lam, 3)) == {0, 0.5, 1}
  for value in (0, 0.5, 1):
    assert abs(np.mean(lam == value) - 1 / 3) < 0.25


@pytest.mark.slow  # another program
def test_a_batch_has_one_ratio():
  one = drawer(blocks=(2,), prior=1e4, transport_cost=None)
  mix = one(jax.random.key(2), SALIENCY, IMAGES)
  assert len(set(np.asarray(mix.lam).tolist())) == 1


@pytest.mark.slow
def test_the_size_of_the_blocks_is_drawn_for_the_batch():
  any_size = drawer(blocks=(2, 4), transport_cost=None, levels=2)
  drawn_sizes = {n: 0 for n in (2, 4)}
  for seed in range(20):
    mask = np.asarray(any_size(jax.random.key(seed), SALIENCY, IMAGES).mask)
    fits = [
      n
      for n in drawn_sizes
      if np.array_equal(
        mask,
        np.kron(
          mask[:, :: 16 // n, :: 16 // n], np.ones((1, 16 // n, 16 // n), bool)
        ),
      )
    ]
    drawn_sizes[min(fits)] += 1
  # Ten of each are expected; a mask of four blocks can look like one of two.
  assert all(count >= 3 for count in drawn_sizes.values()), drawn_sizes


@pytest.mark.slow
def test_equal_images_stay_as_they_are():
  image = some_images(4)[:1]
  images = np.repeat(image, BATCH, 0)
  mix = draw(0, None, images)
  assert len(np.unique(mix.mask)) == 3
  np.testing.assert_array_equal(jaxmix.apply(mix, images), images)


# --- Applying ---


def by_hand(mix, images):
  """Pixel by pixel: move the blocks of both, then mix."""
  order, mask = np.asarray(mix.order), np.asarray(mix.mask, float)
  n, result = order.shape[2], np.empty(images.shape)
  size = images.shape[1] // n
  for b, i, j in np.ndindex(images.shape[:3]):
    pixels = []
    for which, sample in enumerate((b, int(mix.partner[b]))):
      a, c = divmod(order[b, which, i // size, j // size], n)
      pixels.append(images[sample, a * size + i % size, c * size + j % size])
    result[b, i, j] = (
      mask[b, i, j] * pixels[0] + (1 - mask[b, i, j]) * pixels[1]
    )
  return result


@functools.cache
def moving():
  """A draw that moves blocks of both images."""
  for seed in range(20):
    mix = draw(seed)
    home = np.arange(64).reshape(8, 8)
    if all((np.asarray(mix.order)[:, which] != home).any() for which in (0, 1)):
      return mix
  raise AssertionError('nothing is ever moved')


def test_blocks_are_moved_and_mixed():
  mix, want = moving(), by_hand(moving(), IMAGES)
  found = np.asarray(jaxmix.apply(mix, IMAGES))
  np.testing.assert_array_equal(found, np.round(want))
  floats = IMAGES.astype(np.float32)
  np.testing.assert_allclose(jaxmix.apply(mix, floats), want, atol=1e-4)
  finished = jaxmix.apply(mix, IMAGES, postprocess=lambda x: x / 2)
  np.testing.assert_allclose(finished, want / 2, atol=1e-4)


def test_a_draw_fits_other_sizes_that_its_blocks_divide():
  mix = draw(0)
  with pytest.raises(ValueError, match=r'\[6, 15, 16, 1\]'):
    jaxmix.apply(mix, np.ones((BATCH, 15, 16, 1), np.float32))


@pytest.mark.slow
def test_pixels_come_from_both_and_labels_are_their_fractions():
  images = np.broadcast_to(
    np.arange(BATCH, dtype=np.uint8)[:, None, None, None], SHAPE
  )
  function = drawn.quick(
    functools.partial(
      jaxmix.puzzle_mix, num_classes=BATCH, blocks=(8,), levels=2
    )
  )
  mixed, dense = function(
    jax.random.key(1), images, np.arange(BATCH), saliency=SALIENCY
  )
  for pixels, label in zip(np.asarray(mixed), np.asarray(dense), strict=True):
    fraction = np.bincount(pixels[..., 0].ravel(), minlength=BATCH) / 256
    np.testing.assert_allclose(label, fraction, atol=1e-6)


def test_moving_keeps_more_of_what_is_salient():
  def kept(mix):
    saliency = np.asarray(jaxmix.apply(mix, SALIENCY[..., None]))
    return saliency.sum((1, 2, 3))

  still, moved = draw(1, None), draw(1)
  np.testing.assert_array_equal(still.mask, moved.mask)
  assert (kept(moved) >= kept(still) - 1e-3).all()
  assert kept(moved).sum() > kept(still).sum() + 5


@pytest.mark.slow
def test_the_same_key_gives_the_partner_of_the_other_modes():
  key = jax.random.key(7)
  mix = draw(7)
  np.testing.assert_array_equal(
    mix.partner, jaxmix.draw_cutmix(key, SHAPE).partner
  )
  assert reference.own_weight(mix, SHAPE[1:3]).shape == SHAPE[:3]


@pytest.mark.parametrize(
  'options, message',
  [
    ({'blocks': (5,)}, r'blocks=5.*\[16, 16\]'),
    ({'blocks': (1, 2)}, 'blocks=1'),
    ({'blocks': ()}, r'blocks=\(\)'),
    ({'levels': 4}, 'levels=4'),
    ({'data_smoothness': 1.5}, r'data_smoothness=1\.5'),
    ({'label_smoothness': -1.0}, r'label_smoothness=-1\.0'),
    ({'prior': float('nan')}, 'prior=nan'),
    ({'transport_cost': -0.1}, r'transport_cost=-0\.1'),
    ({'alpha': 0.0}, r'alpha=0\.0'),
  ],
)
def test_an_option_out_of_range_is_named(options, message):
  with pytest.raises(ValueError, match=message):
    jaxmix.draw_puzzle_mix(jax.random.key(0), SALIENCY, IMAGES, **options)


def test_blocks_need_two_axes():
  with pytest.raises(ValueError, match=r'\[2, 8, 1\]'):
    jaxmix.draw_puzzle_mix(
      jax.random.key(0), np.ones((2, 8)), np.ones((2, 8, 1))
    )


@pytest.mark.slow
def test_random_mix_takes_no_candidate_that_moves_blocks():
  def puzzle(key, shape, *, granularity, partner):
    return jaxmix.draw_puzzle_mix(
      key,
      jnp.ones(shape[:3]),
      jnp.ones(shape),
      blocks=(2,),
      granularity=granularity,
      partner=partner,
    )

  with pytest.raises(ValueError, match=r'Mix\.order'):
    jaxmix.draw_random_mix(
      jax.random.key(0), (2, 16, 16, 1), candidates=(puzzle, 'mixup')
    )
