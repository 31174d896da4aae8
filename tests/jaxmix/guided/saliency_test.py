"""Tests of saliency maps and of SaliencyMix."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from tests.jaxmix import drawn


def numpy_residual(image, sigma):
  """Hou and Zhang in float64, one image, plain loops for the local mean."""
  grey = image.astype(float).mean(-1)
  spectrum = np.fft.fftn(grey)
  log_size = np.log(np.abs(spectrum))
  mean = np.zeros_like(log_size)
  for offset in np.ndindex(*(3,) * grey.ndim):
    shift = tuple(o - 1 for o in offset)
    mean += np.roll(log_size, shift, range(grey.ndim))
  residual = log_size - mean / 3**grey.ndim
  phase = np.angle(spectrum)
  saliency = np.abs(np.fft.ifftn(np.exp(residual + 1j * phase))) ** 2
  for axis, length in enumerate(grey.shape):
    pixel = np.arange(length)
    result = np.zeros_like(saliency)
    for i in pixel:
      weight = np.exp(-((pixel - i) ** 2) / (2 * (sigma * length) ** 2))
      weight /= weight.sum()
      row = np.tensordot(np.moveaxis(saliency, axis, -1), weight, 1)
      np.moveaxis(result, axis, 0)[i] = row
    saliency = result
  return saliency


residual = functools.partial(jax.jit, static_argnames='sigma')(
  jaxmix.spectral_residual
)


@pytest.mark.parametrize('spatial_shape', [(21,), (32, 32), (9, 12), (4, 6, 5)])
def test_the_residual_is_that_of_the_paper(spatial_shape):
  rng = np.random.default_rng(0)
  images = rng.normal(1, 1, size=(3, *spatial_shape, 2)).astype(np.float32)
  found = np.asarray(residual(images, sigma=0.1))
  assert found.dtype == np.float32 and (found >= 0).all()
  for image, saliency in zip(images, found, strict=True):
    want = numpy_residual(image, 0.1)
    np.testing.assert_allclose(
      saliency, want, rtol=2e-3, atol=1e-3 * want.max()
    )


def scene(row, column, side=32, size=4):
  """Regular stripes, and one square that is none."""
  image = 100 + 20 * np.sin(np.arange(side) * 2 * np.pi / 8)
  image = np.broadcast_to(image[:, None], (side, side))
  # An exact spectrum has zeros, and their logarithms outweigh all else.
  image = image + np.random.default_rng(side).normal(0, 3, (side, side))
  image[row : row + size, column : column + size] = 250
  return image[..., None].astype(np.uint8)


@pytest.mark.parametrize('side, size', [(32, 4), (160, 16)])
def test_what_is_unlike_the_rest_is_salient(side, size):
  half = side // 2
  places = [(side // 8, half), (half, side // 8), (half, half)]
  images = np.stack([scene(row, column, side, size) for row, column in places])
  saliency = np.asarray(residual(images))
  assert saliency.shape == (3, side, side)
  for found, place in zip(saliency, places, strict=True):
    peak = np.unravel_index(found.argmax(), found.shape)
    middle = np.array(place) + (size - 1) / 2
    assert np.abs(peak - middle).max() <= size, f'{peak}, not {middle}'


def test_the_scale_of_the_pixels_does_not_matter():
  images = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3))
  images = images.astype(np.uint8)
  from_bytes = np.asarray(residual(images))
  from_floats = np.asarray(residual(images.astype(np.float32) / 255))
  np.testing.assert_allclose(from_floats, from_bytes, rtol=1e-3)


@pytest.mark.parametrize('value', [0, 7, 255])
def test_a_flat_image_is_nowhere_salient(value):
  saliency = residual(np.full((2, 16, 12, 3), value, np.uint8))
  np.testing.assert_allclose(saliency, np.mean(saliency), rtol=1e-4)


def test_the_gradient_is_measured_over_the_channels():
  gradient = np.random.default_rng(2).normal(size=(3, 5, 4, 3))
  found = jaxmix.gradient_saliency(gradient.astype(np.float32))
  want = np.sqrt(np.sum(gradient**2, axis=-1) / 3)
  np.testing.assert_allclose(found, want, rtol=1e-5)
  assert found.dtype == jnp.float32
  half = jaxmix.gradient_saliency(jnp.asarray(gradient, jnp.bfloat16))
  assert half.dtype == jnp.float32


# --- SaliencyMix ---

SHAPE = drawn.IMAGES
draw = drawn.quick(jaxmix.draw_saliency_mix, static_argnames='granularity')


def peaks(rows, columns, spatial_shape=SHAPE[1:3]):
  saliency = np.zeros((len(rows), *spatial_shape), np.float32)
  saliency[np.arange(len(rows)), rows, columns] = 1
  return saliency


@pytest.mark.parametrize('granularity', drawn.GRANULARITIES)
def test_boxes_surround_the_peak_of_the_partner(granularity):
  rng = np.random.default_rng(3)
  rows, columns = rng.integers(0, 9, 7), rng.integers(0, 12, 7)
  for seed in range(20):
    mix = draw(
      jax.random.key(seed), peaks(rows, columns), granularity=granularity
    )
    partner, box = np.asarray(mix.partner), np.asarray(mix.box)
    centre = np.stack([rows, columns], 1)[partner]
    half = centre - box[..., 0]
    after = box[..., 1] - centre
    unclipped = (box[..., 0] > 0) & (box[..., 1] < SHAPE[1:3])
    np.testing.assert_array_equal(half[unclipped], after[unclipped])
    area = np.prod(box[..., 1] - box[..., 0], axis=1) / (9 * 12)
    np.testing.assert_allclose(mix.lam, 1 - area, atol=1e-6)
    if granularity == 'batch':
      # One half side for all: each box is that one, moved and clipped.
      side = np.max(np.maximum(half, after), axis=0)
      want = np.stack([centre - side, centre + side], -1)
      want = np.clip(want, 0, np.array(SHAPE[1:3])[:, None])
      np.testing.assert_array_equal(box, want)


def test_the_box_moves_with_the_peak():
  rows, columns = np.full(7, 4), np.full(7, 5)
  key = jax.random.key(2)
  first = np.asarray(draw(key, peaks(rows, columns)).box)
  moved = np.asarray(draw(key, peaks(rows - 1, columns + 2)).box)
  assert (first[..., 1] > first[..., 0]).all(), 'this key cuts nothing'
  want = first + np.array([[-1, -1], [2, 2]])
  np.testing.assert_array_equal(
    moved, np.clip(want, 0, np.array(SHAPE[1:3])[:, None])
  )


def test_of_several_peaks_the_first_is_taken():
  flat = draw(jax.random.key(0), np.ones(SHAPE[:3], np.float32))
  assert (np.asarray(flat.box)[..., 0] == 0).all()


def test_pixels_come_from_both_and_labels_are_their_fractions():
  rng = np.random.default_rng(4)
  saliency = rng.random(SHAPE[:3]).astype(np.float32)
  images = np.broadcast_to(
    np.arange(SHAPE[0])[:, None, None, None], SHAPE
  ).astype(np.uint8)
  labels = np.arange(SHAPE[0])
  function = drawn.quick(
    functools.partial(jaxmix.saliency_mix, num_classes=SHAPE[0])
  )
  for seed in range(5):
    mixed, dense = function(
      jax.random.key(seed), images, labels, saliency=saliency
    )
    assert mixed.dtype == np.uint8
    for pixels, label in zip(np.asarray(mixed), np.asarray(dense), strict=True):
      fraction = np.bincount(pixels[..., 0].ravel(), minlength=7) / (9 * 12)
      np.testing.assert_allclose(label, fraction, atol=1e-6)


def test_a_traced_alpha_out_of_range_gives_nan():
  lam = draw(jax.random.key(0), np.ones(SHAPE[:3], np.float32), alpha=-1.0).lam
  assert np.isnan(lam).all(), 'it would train on wrong labels'


@pytest.mark.slow
def test_saliency_is_the_residual_by_default():
  images = np.stack([scene(4, 20), scene(16, 6), scene(12, 12)])
  labels, key = np.arange(3), jax.random.key(1)
  mix = drawn.quick(functools.partial(jaxmix.saliency_mix, num_classes=3))
  found, _ = mix(key, images, labels)
  want, _ = mix(key, images, labels, saliency=residual(images))
  np.testing.assert_array_equal(found, want)
  assert (np.asarray(found) != images).any()


@pytest.mark.parametrize(
  'saliency, error, message',
  [
    (np.ones(3), ValueError, r'saliency.*\[3\]'),
    (np.ones((2, 0)), ValueError, r'saliency.*\[2, 0\]'),
    ([[1.0]], TypeError, 'saliency.*list'),
    (np.ones((2, 4, 5)), ValueError, r'saliency.*\[2, 4, 5\].*\[2, 4, 4\]'),
  ],
)
def test_an_invalid_map_is_refused(saliency, error, message):
  with pytest.raises(error, match=message):
    jaxmix.saliency_mix(
      jax.random.key(0),
      jnp.ones((2, 4, 4, 1)),
      jnp.array([0, 1]),
      num_classes=2,
      saliency=saliency,
    )
