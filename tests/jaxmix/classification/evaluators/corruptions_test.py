"""The corruptions beside what the authors' program is built of."""

import colorsys
import functools
import io
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
from PIL import Image

from jaxmix.classification.evaluators import corruptions, filters
from tests.jaxmix.classification import photos

SIDE = 32
LEVELS = range(5)
every_level = pytest.mark.parametrize('level', LEVELS)
every_corruption = pytest.mark.parametrize('name', corruptions.CORRUPTIONS)


@functools.cache
def some_images():
  """Returns six small parts of real photographs."""
  parts = [Image.fromarray(photos.cut(i, 200, 200)) for i in range(6)]
  return np.stack([np.asarray(part.resize((SIDE, SIDE))) for part in parts])


@functools.cache
def program(name):
  return jax.jit(functools.partial(corruptions.corrupt, name))


def corrupt(name, severity, images=None, index=None):
  images = some_images() if images is None else images
  index = np.arange(len(images)) if index is None else index
  return np.asarray(program(name)(severity, images, index))


def one(name, image, level, seed=0):
  """One corruption of floats in 0..1, not cut off to bytes."""
  function = jax.jit(corruptions.CORRUPTIONS[name])
  image = jnp.asarray(image, jnp.float32)
  return np.asarray(function(jax.random.key(seed), image, jnp.int32(level)))


# --- All of them ---


def test_there_are_the_fifteen():
  assert len(corruptions.CORRUPTIONS) == 15


@pytest.mark.slow
@every_corruption
def test_an_image_is_corrupted_alike_wherever_it_stands(name):
  index = np.arange(6)
  whole = corrupt(name, 3)
  assert whole.dtype == np.uint8 and whole.shape == some_images().shape
  order = np.array([4, 1, 5, 0, 2, 3])
  again = corrupt(name, 3, some_images()[order], index[order])
  np.testing.assert_array_equal(again, whole[order])


@every_corruption
def test_what_is_drawn_depends_on_the_place_in_the_split(name):
  images = np.repeat(some_images()[:1], 6, axis=0)
  found = corrupt(name, 5, images)
  drawn = name not in (
    *('defocus_blur', 'zoom_blur', 'brightness', 'contrast', 'pixelate'),
    'jpeg_compression',
  )
  assert (len({x.tobytes() for x in found}) == 6) == drawn


@every_corruption
def test_the_most_severe_does_more_than_the_least(name):
  clean = some_images().astype(float)
  least, most = (np.mean((corrupt(name, s) - clean) ** 2) for s in (1, 5))
  # Elastic ones move points by less and less, and pixels by more.
  assert 0.5 < least and (least < most or name == 'elastic_transform'), (
    f'mean squared change {least}, then {most}'
  )


@every_corruption
def test_products_are_in_float32_on_every_device(name):
  traced = jax.make_jaxpr(functools.partial(corruptions.corrupt, name))(
    jnp.int32(1), some_images()[:1], np.arange(1)
  )
  text = str(traced)
  count = len(re.findall(r'(?:dot_general|conv_general_dilated)\[', text))
  assert text.count('HIGHEST') >= count, 'a product in less than float32'
  assert 'DEFAULT' not in text


@pytest.mark.parametrize('severity', [0, 6, -1])
def test_a_severity_that_is_none_is_refused(severity):
  with pytest.raises(ValueError, match=f'severity={severity} '):
    corruptions.corrupt(
      'fog', severity, jnp.zeros((1, 16, 16, 3)), jnp.arange(1)
    )


def test_an_unknown_corruption_is_refused():
  with pytest.raises(ValueError, match="name='frogs'"):
    corruptions.corrupt('frogs', 1, jnp.zeros((1, 16, 16, 3)), jnp.arange(1))


# --- Noise: laws ---


def grey(value, side=64):
  return np.full((side, side, 3), value, np.float32)


@every_level
def test_normal_noise_has_its_spread(level):
  noise = one('gaussian_noise', grey(0.5), level) - 0.5
  std = (0.04, 0.06, 0.08, 0.09, 0.10)[level]
  # 12,288 values: three standard errors are 2 %.
  assert noise.std() == pytest.approx(std, rel=0.02)
  assert abs(noise.mean()) < 3 * std / 110


@pytest.mark.slow
@every_level
@pytest.mark.parametrize('value', [0, 3, 128, 255])
def test_photons_are_counted_as_poisson_has_them(level, value):
  photons = (500, 250, 100, 75, 50)[level]
  counts = one('shot_noise', grey(value / 255), level) * photons
  np.testing.assert_allclose(counts, np.round(counts), atol=1e-3)
  expected = value / 255 * photons
  if not value:
    assert not counts.any()
    return
  counts = np.round(counts).ravel()
  # 12,288 counts: 1.6 / sqrt(n) is passed once in 100 by chance alone.
  grid = np.arange(counts.max() + 1)
  share = np.searchsorted(np.sort(counts), grid, side='right') / counts.size
  law = scipy.stats.poisson.cdf(grid, expected)
  assert abs(share - law).max() < 1.6 / counts.size**0.5


@every_level
def test_impulses_are_as_many_and_half_of_them_white(level):
  found = one('impulse_noise', grey(0.5), level)
  amount = (0.01, 0.02, 0.03, 0.05, 0.07)[level]
  for value in (0, 1):
    share = np.mean(found == value)
    error = (amount / 2 / found.size) ** 0.5
    assert abs(share - amount / 2) < 4 * error, f'{share} are {value}'
  assert set(np.unique(found)) == {0, 0.5, 1}


# --- Blurs ---


@pytest.mark.parametrize('border', ['edge', 'symmetric'])
@pytest.mark.parametrize(('sigma', 'truncate'), [(0.4, 4), (2.0, 3), (0.05, 4)])
def test_a_gaussian_is_scipys(sigma, truncate, border):
  image = some_images()[0] / 255
  matrix = filters.blur_matrix(SIDE, sigma, border, truncate)
  mode = {'edge': 'nearest', 'symmetric': 'reflect'}[border]
  expected = scipy.ndimage.gaussian_filter(
    image, (sigma, sigma, 0), mode=mode, truncate=truncate
  )
  found = filters.resize(jnp.asarray(image), jnp.asarray(matrix))
  np.testing.assert_allclose(found, expected, atol=1e-5)


@every_level
def test_defocus_is_opencvs(level):
  cv2 = pytest.importorskip('cv2')
  radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[
    level
  ]
  x = np.arange(-8, 9)
  disk = (x[:, None] ** 2 + x**2 <= radius**2).astype(np.float32)
  disk = cv2.GaussianBlur(disk / disk.sum(), (3, 3), alias)
  image = some_images()[1].astype(np.float32) / 255
  expected = cv2.filter2D(image, -1, disk)
  np.testing.assert_allclose(
    one('defocus_blur', image, level), expected, atol=1e-5
  )


def test_glass_moves_pixels_by_one_up_or_left():
  places = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)
  image = np.stack([places // SIDE, places % SIDE, 0 * places], 2) / 255
  found = np.round(255 * one('glass_blur', image, 0))  # sigma .05 blurs nothing
  moved = np.stack([places // SIDE, places % SIDE], 2) - found[..., :2]
  assert set(np.unique(moved)) == {0, 1}
  assert not moved[:2].any() and not moved[:, :2].any(), 'the border moved'
  # 900 fair coins, twice: four standard errors.
  assert abs(moved[2:, 2:].mean() - 0.5) < 4 * 0.5 / 1800**0.5


@pytest.mark.slow
@pytest.mark.parametrize('angle', [0.0, 45.0, -30.0, -90.0])
def test_motion_is_a_walk(angle):
  weights = filters.motion_weights(3, 2.0, 10)
  assert np.count_nonzero(weights) == 7 and weights.sum() == pytest.approx(1)
  image = some_images()[2] / 255
  expected = np.zeros_like(image)
  turn = np.deg2rad(np.float32(angle))
  for y, x in np.ndindex(SIDE, SIDE):
    for i, weight in enumerate(weights):
      down = int(np.ceil(np.float32(i * np.sin(turn) - 0.5)))
      right = int(np.ceil(np.float32(i * np.cos(turn) - 0.5)))
      row, column = np.clip((y + down, x + right), 0, SIDE - 1)
      expected[y, x] += weight * image[row, column]
  found = filters.motion(
    jnp.asarray(image), jnp.float32(angle), jnp.asarray(weights)
  )
  levels = 255 * np.asarray(found)
  np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
  np.testing.assert_allclose(levels, 255 * expected, atol=0.5 + 1e-3)


@pytest.mark.parametrize('factor', [1.0, 1.03, 1.25, 1.75, 2.25])
def test_zooming_is_scipys(factor):
  image = some_images()[3] / 255
  kept = int(np.ceil(SIDE / factor))
  start = (SIDE - kept) // 2
  middle = image[start : start + kept, start : start + kept]
  zoomed = np.asarray(scipy.ndimage.zoom(middle, (factor, factor, 1), order=1))
  trim = (len(zoomed) - SIDE) // 2
  expected = zoomed[trim : trim + SIDE, trim : trim + SIDE]
  matrix = jnp.asarray(filters.zoom_matrix(SIDE, factor))
  found = filters.resize(jnp.asarray(image), matrix)
  np.testing.assert_allclose(found, expected, atol=1e-5)


@every_level
def test_zoom_blur_is_the_mean_of_zooms(level):
  image = some_images()[4] / 255
  factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[level], 0.01)
  near = [
    np.einsum('ih,jw,hwc->ijc', *2 * [filters.zoom_matrix(SIDE, f)], image)
    for f in factors
  ]
  expected = (image + np.sum(near, axis=0)) / (len(factors) + 1)
  np.testing.assert_allclose(
    one('zoom_blur', image, level), expected, atol=2e-5
  )


# --- Weather ---


@pytest.mark.slow
def test_plasma_is_a_fractal_from_0_to_1():
  draw = jax.jit(jax.vmap(lambda key: filters.plasma(key, 32, jnp.float32(3))))
  fields = np.asarray(draw(jax.random.split(jax.random.key(0), 20)))
  for field in fields:
    assert (field.min(), field.max()) == pytest.approx((0, 1), abs=1e-6)
  # Neighbours are alike, far ones are not; it closes into a torus.
  near = np.mean(
    [abs(f - np.roll(f, 1, axis)) for f in fields for axis in (0, 1)]
  )
  far = np.mean([abs(f - np.roll(f, 16, 0)) for f in fields])
  assert near < far / 4
  with pytest.raises(ValueError, match='side=24 '):
    filters.plasma(jax.random.key(0), 24, jnp.float32(3))


@pytest.mark.slow
def test_fog_leaves_black_images_and_never_brightens_the_brightest():
  assert not one('fog', grey(0.0, 32), 4).any(), 'NaN or light out of nothing'
  image = some_images()[5] / 255
  assert one('fog', image, 4).max() <= image.max() + 1e-6


def test_snow_falls_on_black_and_whitens_it():
  found = corrupt('snow', 5, np.zeros((6, 32, 32, 3), np.uint8))
  assert found.mean() > 20 and (np.ptp(found, axis=3) == 0).all()


@every_level
def test_brightness_is_that_of_hsv(level):
  image = some_images()[0] / 255
  more = (0.05, 0.1, 0.15, 0.2, 0.3)[level]
  expected = np.zeros_like(image)
  for place in np.ndindex(SIDE, SIDE):
    hue, saturation, value = colorsys.rgb_to_hsv(*image[place])
    expected[place] = colorsys.hsv_to_rgb(hue, saturation, min(1, value + more))
  np.testing.assert_allclose(
    one('brightness', image, level), expected, atol=1e-5
  )


# --- Digital ---


@every_level
def test_contrast_keeps_the_means(level):
  image = some_images()[1] / 255
  found = one('contrast', image, level)
  np.testing.assert_allclose(found.mean((0, 1)), image.mean((0, 1)), atol=1e-5)
  kept = (0.75, 0.5, 0.4, 0.3, 0.15)[level]
  np.testing.assert_allclose(
    found.std((0, 1)), kept * image.std((0, 1)), rtol=1e-4
  )


@pytest.mark.slow
def test_elastic_moves_three_points_where_they_were_drawn():
  # Without the smooth part: a plane stays a plane, and its slopes tell the map.
  y, x = np.mgrid[:SIDE, :SIDE] / 255
  image = np.stack([x, y, 0 * x], 2)
  found = one('elastic_transform', image, 0, seed=3)
  key = jax.random.key(3)
  drawn = filters.uniform(key, (6 + 2 * SIDE * SIDE,), -1, 1)[:6]
  points = np.array([[26, 26], [26, 6], [6, 6]])
  moved = points + SIDE * 0.08 * np.asarray(drawn).reshape(3, 2)
  whole = np.concatenate([moved, np.ones((3, 1))], axis=1)
  back = np.linalg.solve(whole, points)
  place = np.stack([255 * x, 255 * y, np.ones_like(x)], 2) @ back
  inside = ((place > 0) & (place < SIDE - 1)).all(axis=2)
  assert inside.mean() > 0.5
  error = abs(255 * found[..., :2] - place)[inside]
  assert error.max() < 1e-2, f'a pixel comes from {error.max()} pixels beside'


@every_level
def test_boxes_are_pillows(level):
  kept = (0.95, 0.9, 0.85, 0.75, 0.65)[level]
  small = int(SIDE * kept)
  for image, found in zip(
    some_images(), corrupt('pixelate', level + 1), strict=True
  ):
    shrunk = Image.fromarray(image).resize((small, small), Image.Resampling.BOX)
    expected = shrunk.resize((SIDE, SIDE), Image.Resampling.BOX)
    difference = abs(found.astype(int) - np.asarray(expected))
    assert difference.max() <= 1 and difference.mean() < 0.25


@every_level
def test_jpeg_is_libjpegs(level):
  quality = (80, 65, 58, 50, 40)[level]
  for image, found in zip(
    some_images(), corrupt('jpeg_compression', level + 1), strict=True
  ):
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'JPEG', quality=quality)
    expected = np.asarray(Image.open(file)).astype(float)
    found = found.astype(float)
    ours, theirs = (abs(x - image).mean() for x in (found, expected))
    # Its integer transform rounds elsewhere; now and then a step differs.
    assert abs(found - expected).mean() < 1
    assert ours == pytest.approx(theirs, rel=0.01)


def test_jpeg_refuses_sides_that_it_would_have_to_pad():
  tables = jnp.asarray(filters.jpeg_tables(50))
  with pytest.raises(ValueError, match='24, 32'):
    filters.jpeg(jnp.zeros((24, 32, 3)), tables)
