"""Tests of ResizeMix: the scale, the position and the interpolation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxmix
from jaxmix._src.resizemix import paste_box, shrink_source
from tests.jaxmix import drawn, reference

MANY = 20_000


@functools.partial(drawn.quick, static_argnums=2)
def place(scale, centre, spatial_shape):
  box = paste_box(scale, centre, spatial_shape)
  return box, shrink_source(scale, box[..., 0], spatial_shape)


apply_once = drawn.quick(jaxmix.apply)


def make_mix(scale, centre, spatial_shape, method='nearest'):
  """A ResizeMix with these scales and centres, each partner the one before."""
  scale = np.asarray(scale, np.float32)
  box, source = place(scale, np.asarray(centre, np.int32), spatial_shape)
  samples = np.arange(len(scale), dtype=np.int32)
  return jaxmix.Mix(
    lam=jnp.asarray(
      1 - reference.box_fraction(box, spatial_shape), jnp.float32
    ),
    partner=jnp.roll(samples, 1),
    box=box,
    source=source,
    method=method,
  )


@pytest.mark.parametrize(
  'spatial_shape', [(32, 32), (31, 17), (21,), (6, 9, 5)]
)
def test_size_is_floored_and_the_patch_is_whole(spatial_shape):
  rng = np.random.default_rng(0)
  scale = rng.uniform(0.1, 1, MANY).astype(np.float32)
  scale[:3] = 0.1, 0.8, 1.0
  centre = rng.integers(0, spatial_shape, (MANY, len(spatial_shape))).astype(
    np.int32
  )
  box = np.asarray(
    jax.jit(paste_box, static_argnums=2)(scale, centre, spatial_shape), np.int64
  )
  side = scale[:, None].astype(float) * spatial_shape
  want = np.maximum(np.floor(side), 1)  # the published code may paste nothing
  size = box[..., 1] - box[..., 0]
  unclear = reference.near_integer(side)
  assert ((size == want) | unclear).all(), 'size is not floor(length * scale)'
  assert (box >= 0).all() and (box[..., 1] <= spatial_shape).all(), (
    'a patch is cut'
  )
  start = reference.paste_start(size, centre, np.array(spatial_shape))
  np.testing.assert_array_equal(
    box[..., 0], start, 'the patch is not where the published code puts it'
  )


def test_borders_are_likelier():
  # Every centre once, a patch of 16 in 32: exactly the published starts.
  centre = np.arange(32, dtype=np.int32)[:, None]
  box = np.asarray(paste_box(jnp.full(32, 0.5), jnp.asarray(centre), (32,)))
  count = np.bincount(box[:, 0, 0], minlength=17)
  assert count.tolist() == [9] + [1] * 15 + [8]  # .28, .031, .25


def test_places_are_drawn_for_each_sample():
  draw = functools.partial(
    jaxmix.draw_resizemix, shape=(MANY, 32, 32, 1), scale=(0.5, 0.5)
  )
  mix = drawn.quick(draw)(jax.random.key(0))
  start = np.asarray(mix.box)[..., 0]
  expected = np.array([9] + [1] * 15 + [8]) / 32
  for axis in range(2):
    count = np.bincount(start[:, axis], minlength=17)
    p = reference.p_value(stats.chisquare(count, MANY * expected))
    assert p > 1e-4, (
      f'axis {axis}: starts {count[[0, 8, 16]] / MANY} instead of '
      f'[.281 .031 .25] (p={p:.1e})'
    )
  table = np.zeros((17, 17))
  np.add.at(table, tuple(start.T), 1)
  assert reference.p_value(stats.chi2_contingency(table)) > 1e-4, 'axes depend'
  r = np.corrcoef(start[:-1, 0], start[1:, 0])[0, 1]
  assert abs(r) * np.sqrt(MANY) < 4.5, (
    'neighbouring samples have correlated positions'
  )


@functools.cache
def sizes(side, granularity):
  """The sides of the patches that 20 000 draws give, and lam."""
  if granularity == 'sample':
    shape, keys = (MANY, side, 1, 1), jax.random.split(jax.random.key(1), 1)
  else:
    shape, keys = (2, side, 1, 1), jax.random.split(jax.random.key(2), MANY)
  draw = functools.partial(
    jaxmix.draw_resizemix, shape=shape, granularity=granularity, pairing='roll'
  )

  def small(key):
    mix = draw(key)
    assert mix.box is not None
    return mix.box[:, 0, 1] - mix.box[:, 0, 0]

  return np.asarray(drawn.quick(jax.vmap(small))(keys))


@pytest.mark.parametrize('granularity', ['batch', 'sample'])
def test_scales_are_uniform(granularity):
  # 1000 pixels: the size is the scale floored to thousandths, all of them
  # equally likely. (The second axis has one pixel; it cannot be shrunk.)
  size = sizes(1000, granularity)
  if granularity == 'batch':
    assert (size[:, 0] == size[:, 1]).all(), 'a batch has two scales'
    size = size[:, 0]
  size = size.ravel()
  assert size.min() >= 100 and size.max() < 800
  p = reference.p_value(
    stats.kstest((size + 0.5) / 1000, stats.uniform(0.1, 0.7).cdf)
  )
  assert p > 1e-4, f'scales are not uniform in (.1, .8) (p={p:.1e})'
  blocks = np.bincount(size // 10, minlength=80)[10:]
  p = reference.p_value(stats.chisquare(blocks))
  assert p > 1e-4, f'scales are not uniform in (.1, .8) (p={p:.1e})'
  # What follows for square images (mixing.md, 1.4); five standard errors.
  for side, mean, low, high in (
    (32, 0.771, 0.390, 0.991),
    (224, 0.759, 0.361, 0.990),
  ):
    lam = 1 - (np.floor(size / 1000 * side + 1e-9) / side) ** 2
    assert abs(lam.mean() - mean) < 0.007
    assert lam.min() > low - 1e-3 and lam.max() < high + 1e-3


def test_scales_of_a_batch_are_independent():
  size = sizes(1000, 'sample').ravel()
  r = np.corrcoef(size[:-1], size[1:])[0, 1]
  assert abs(r) * np.sqrt(MANY) < 4.5, f'correlation {r:.4f}'


SCALES = np.array([0.1, 0.23, 0.37, 0.5, 0.5, 0.61, 0.79, 0.8, 0.95, 1.0])
CENTRES = np.array(
  [[0, 0], [8, 3], [15, 11], [2, 11], [0, 7], [15, 0], [7, 7]]
  + [[1, 2], [0, 0], [4, 4]]
)
SPATIAL_SHAPE = (16, 12)


def random_images(spatial_shape=SPATIAL_SHAPE):
  shape = (len(SCALES), *spatial_shape, 2)
  return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def patches(out, mix):
  box = np.asarray(mix.box)
  return [out[b][tuple(slice(*s) for s in box[b])] for b in range(len(box))]


def test_nearest_reads_floor_of_the_scaled_index():
  images, mix = random_images(), make_mix(SCALES, CENTRES, SPATIAL_SHAPE)
  got = patches(np.asarray(apply_once(mix, images)), mix)
  for b, patch in enumerate(got):
    # In float32, as torch does: 4 / .8 is 5 there, a little less in float64.
    rows, columns = (
      np.minimum(np.arange(n, dtype=np.float32) / np.float32(SCALES[b]), m - 1)
      for n, m in zip(patch.shape, SPATIAL_SHAPE, strict=False)
    )
    grid = np.ix_(rows.astype(int), columns.astype(int))
    np.testing.assert_array_equal(
      patch, images[b - 1][grid], f'scale {SCALES[b]}'
    )


@pytest.mark.slow
def test_nearest_is_that_of_torch():
  torch = pytest.importorskip('torch')
  images, mix = random_images(), make_mix(SCALES, CENTRES, SPATIAL_SHAPE)
  got = patches(np.asarray(apply_once(mix, images)), mix)
  for b, patch in enumerate(got):
    first = torch.tensor(images[b - 1]).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(first, scale_factor=SCALES[b])
    np.testing.assert_array_equal(
      patch, small[0].permute(1, 2, 0).numpy(), f'scale {SCALES[b]}'
    )


@pytest.fixture(scope='module', params=['linear', 'cubic'])
def resized(request):
  images = random_images()
  mix = make_mix(SCALES, CENTRES, SPATIAL_SHAPE, request.param)
  out = np.asarray(apply_once(mix, images))
  return request.param, images, mix, out


@pytest.mark.slow
def test_interpolation_is_an_antialiased_resize_at_that_size(resized):
  method, images, mix, out = resized
  for b, patch in enumerate(patches(out, mix)):
    rows, columns = (
      reference.resize_matrix(m, n, method)
      for n, m in zip(patch.shape, SPATIAL_SHAPE, strict=False)
    )
    want = np.einsum('ip,jq,pqc->ijc', rows, columns, images[b - 1])
    np.testing.assert_allclose(
      patch,
      want,
      atol=2e-5,
      err_msg=f'scale {SCALES[b]}, box {mix.box[b].tolist()}: the patch is not '
      'the partner resized to it (cut out of it instead?)',
    )


@pytest.mark.parametrize('b', [2, 5])
def test_interpolation_is_jax_image_resize(resized, b):
  method, images, mix, out = resized
  patch = patches(out, mix)[b]
  want = jax.image.resize(images[b - 1], patch.shape, method)
  np.testing.assert_allclose(patch, want, atol=1e-5)


def test_linear_is_that_of_torch():
  torch = pytest.importorskip('torch')
  images, mix = (
    random_images(),
    make_mix(SCALES, CENTRES, SPATIAL_SHAPE, 'linear'),
  )
  out = np.asarray(apply_once(mix, images))
  for b in (0, 1, 3, 5, 7):
    patch = patches(out, mix)[b]
    first = torch.tensor(images[b - 1]).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(
      first, patch.shape[:2], mode='bilinear', antialias=True
    )
    np.testing.assert_allclose(
      patch, small[0].permute(1, 2, 0).numpy(), atol=1e-5
    )


def test_interpolation_leaves_the_rest_alone(resized):
  _, images, mix, out = resized
  kept = reference.own_weight(mix, SPATIAL_SHAPE) == 1
  np.testing.assert_array_equal(out[kept], images[kept])


def test_small_images_are_interpolated_too():
  # 4 pixels shrunk to 3 read 0, 1, 2 by the rule of 'nearest', as if they had
  # been cut: that must not be taken for 'not resized'.
  mix = make_mix([0.8, 0.8], [[0], [3]], (4,), 'linear')
  images = np.array([[0.0, 1, 5, 20], [3, 1, 4, 1]], np.float32)[..., None]
  out = np.asarray(apply_once(mix, images))[..., 0]
  weights = reference.resize_matrix(4, 3, 'linear')
  np.testing.assert_allclose(out[1, 1:], weights @ images[0, :, 0], atol=1e-5)
  np.testing.assert_allclose(
    out[0, :3],
    weights @ images[1, :, 0],
    atol=1e-5,
    err_msg='a patch at the origin was cut out of the partner, not resized',
  )


def test_interpolated_uint8_is_rounded_and_clipped():
  rng = np.random.default_rng(2)
  images = rng.choice([0, 255], (len(SCALES), *SPATIAL_SHAPE, 1)).astype(
    np.uint8
  )
  mix = make_mix(SCALES[:8], CENTRES[:8], SPATIAL_SHAPE, 'cubic')
  out = np.asarray(apply_once(mix, images[:8]))
  assert out.dtype == np.uint8
  for b, patch in enumerate(patches(out, mix)):
    rows, columns = (
      reference.resize_matrix(m, n, 'cubic')
      for n, m in zip(patch.shape, SPATIAL_SHAPE, strict=False)
    )
    other = images[(b - 1) % 8].astype(float)
    want = np.einsum('ip,jq,pqc->ijc', rows, columns, other).clip(0, 255)
    # Cubic overshoots black and white: unclipped it would wrap around.
    assert np.abs(patch - want).max() <= 0.5 + 1e-3


def test_gradient_flows_through_the_resize():
  # The mode is linear in the images: <out(u), v> = <u, gradient(v)>.
  rng = np.random.default_rng(3)
  mix = make_mix(SCALES[:8], CENTRES[:8], SPATIAL_SHAPE, 'linear')
  u, v = rng.normal(size=(2, 8, *SPATIAL_SHAPE, 1)).astype(np.float32)

  @drawn.quick
  def pair(u, v):
    out, pull = jax.vjp(lambda x: jaxmix.apply(mix, x), u)
    return jnp.vdot(out, v), jnp.vdot(u, pull(v)[0])

  forward, backward = pair(u, v)
  np.testing.assert_allclose(forward, backward, rtol=1e-4, atol=1e-3)


def test_hard_masks_are_read_never_interpolated():
  mix = make_mix(SCALES, CENTRES, SPATIAL_SHAPE, 'linear')
  nearest = make_mix(SCALES, CENTRES, SPATIAL_SHAPE)
  rng = np.random.default_rng(4)
  masks = rng.integers(0, 9, (len(SCALES), *SPATIAL_SHAPE, 1)).astype(np.int32)
  hard = drawn.quick(functools.partial(jaxmix.apply, hard=True))
  np.testing.assert_array_equal(hard(mix, masks), hard(nearest, masks))
