import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxmix.classification.augment import (
  CropFlip,
  crop_flip,
  draw_crop_flip,
  normalise,
)


def by_loop(drawn, images, pad):
  """Pad with zeros, crop, flip: one image at a time."""
  _, height, width, _ = images.shape
  padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  result = np.empty_like(images)
  for i, (y, x) in enumerate(np.asarray(drawn.offset) + pad):
    crop = padded[i, y : y + height, x : x + width]
    result[i] = crop[:, ::-1] if drawn.flip[i] else crop
  return result


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('shape', [(5, 6, 1), (4, 4, 3)])
@pytest.mark.parametrize('pad', [0, 2, 7])
def test_every_crop_and_flip_is_that_of_a_loop(shape, pad, dtype):
  offsets = itertools.product(range(-pad, pad + 1), repeat=2)
  every = [(*offset, flip) for offset in offsets for flip in (False, True)]
  y, x, flip = (np.array(column) for column in zip(*every, strict=True))
  # From 1: black must come from the padding alone.
  images = np.random.default_rng(0).integers(1, 256, (len(every), *shape))
  images = images.astype(dtype)
  drawn = CropFlip(jnp.stack([y, x], axis=1), jnp.asarray(flip))
  result = jax.jit(crop_flip)(drawn, images)
  assert result.dtype == dtype
  np.testing.assert_array_equal(result, by_loop(drawn, images, pad))


def test_offsets_are_uniform_and_independent():
  pad, count = 2, 25_000
  drawn = draw_crop_flip(jax.random.key(0), count, pad=pad, flip=True)
  y, x = np.asarray(drawn.offset).T + pad
  counts = np.zeros((5, 5, 2), int)
  np.add.at(counts, (y, x, np.asarray(drawn.flip).astype(int)), 1)
  assert scipy.stats.chisquare(counts.ravel()).pvalue > 0.01, counts


def test_flips_are_fair():
  drawn = draw_crop_flip(jax.random.key(1), 20_000, pad=4, flip=True)
  flips = int(drawn.flip.sum())
  assert scipy.stats.binomtest(flips, 20_000).pvalue > 0.01, flips


def test_each_key_gives_another_draw():
  a, b = (
    draw_crop_flip(jax.random.key(seed), 64, pad=4, flip=True)
    for seed in (0, 1)
  )
  assert (a.offset != b.offset).any() and (a.flip != b.flip).any()


@pytest.mark.slow
def test_nothing_to_draw_is_the_identity():
  images = np.random.default_rng(0).integers(0, 256, (9, 5, 4, 3), np.uint8)
  drawn = draw_crop_flip(jax.random.key(0), 9, pad=0, flip=False)
  assert not drawn.offset.any() and not drawn.flip.any()
  np.testing.assert_array_equal(crop_flip(drawn, jnp.asarray(images)), images)


def test_crops_without_flips():
  drawn = draw_crop_flip(jax.random.key(0), 64, pad=4, flip=False)
  assert drawn.offset.any() and not drawn.flip.any()


def test_normalise_is_by_channel():
  images = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 2), np.uint8)
  mean, std = (0.3, 0.6), (0.2, 0.4)
  result = normalise(jnp.asarray(images), mean, std)
  expected = (images / 255 - np.array(mean)) / np.array(std)
  assert result.dtype == jnp.float32
  np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_ranks_are_not_promoted():
  # A trainer runs with JAX_NUMPY_RANK_PROMOTION=raise.
  images = jnp.ones((2, 8, 8, 3), jnp.uint8)
  drawn = CropFlip(jnp.zeros((2, 2), jnp.int32), jnp.array([True, False]))
  with jax.numpy_rank_promotion('raise'):
    cropped = jax.eval_shape(crop_flip, drawn, images)
    scaled = normalise(images, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
  assert cropped.shape == scaled.shape == images.shape
