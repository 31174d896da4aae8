"""Tests of spatial_axes: which axes boxes and masks vary over."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from tests.jaxmix import drawn

VIDEO = (5, 3, 9, 12, 2)  # [B, T, H, W, C]
FRAMES = (5, 9, 12, 2)
KEY = jax.random.key(4)
DRAWS = {mode: drawn.DRAW[mode] for mode in drawn.MASK_MODES}
DRAWS['random_mix'] = jaxmix.draw_random_mix
# Every image has one value, its number: a pixel tells where it is from.
CONSTANT = np.broadcast_to(
  np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1, 1), VIDEO
)


def own_pixels(mix, images=CONSTANT):
  """Which pixels of the result are the sample's own: bool `[B, T, H, W]`."""
  return np.asarray(jaxmix.apply(mix, images) == images)[..., 0]


@functools.cache
def draw(name, axes, granularity='sample', seed=0):
  call = functools.partial(
    DRAWS[name],
    shape=VIDEO,
    spatial_axes=axes,
    granularity=granularity,
    pairing='roll',
  )
  return drawn.quick(call)(jax.random.key(seed))


@pytest.mark.parametrize('granularity', drawn.GRANULARITIES)
@pytest.mark.parametrize('name', DRAWS)
def test_every_frame_is_mixed_like_an_image(name, granularity):
  options = {'granularity': granularity, 'pairing': 'roll'}
  # Several keys, so that RandomMix draws every mode, of all four.
  for seed in range(8 if name == 'random_mix' else 2):
    key = jax.random.key(seed)
    video = DRAWS[name](key, VIDEO, spatial_axes=(2, 3), **options)
    frame = DRAWS[name](key, FRAMES, **options)
    np.testing.assert_array_equal(video.lam, frame.lam)
    images = np.random.default_rng(seed).normal(size=VIDEO).astype('f4')
    found = np.asarray(jaxmix.apply(video, images))
    for t in range(VIDEO[1]):
      want = jaxmix.apply(frame, images[:, t])
      np.testing.assert_array_equal(found[:, t], want)


@pytest.mark.parametrize('name', DRAWS)
def test_whole_frames(name):
  own = own_pixels(draw(name, (1,)))
  if name == 'random_mix':  # of which Mixup blends every pixel
    own = own[own.any((1, 2, 3))]
  assert (own == own[:, :, :1, :1]).all()


def test_a_box_in_time_and_space_by_default():
  whole = [draw('cutmix', axes, seed=1) for axes in (None, (1, 2, 3))]
  np.testing.assert_array_equal(whole[0].box, whole[1].box)
  own = own_pixels(whole[0])
  assert (own != own[:, :1]).any(), 'all frames are the same'
  assert (own != own[:, :, :1]).any()


@pytest.mark.parametrize('axes', [None, (1,), (2, 3), (1, 3)])
@pytest.mark.parametrize('name', drawn.MASK_MODES)
def test_labels_are_the_fractions_of_pixels(name, axes):
  mix = draw(name, axes)
  np.testing.assert_allclose(
    mix.lam, own_pixels(mix).mean((1, 2, 3)), atol=1e-6
  )


@pytest.mark.parametrize('mode', drawn.MASK_MODES)
def test_the_one_call_functions_have_it(mode):
  mixed, _ = drawn.MIX[mode](
    KEY, CONSTANT, np.arange(5), num_classes=5, spatial_axes=(2, 3)
  )
  want = jaxmix.apply(DRAWS[mode](KEY, VIDEO, spatial_axes=(2, 3)), CONSTANT)
  np.testing.assert_array_equal(mixed, want)


def test_interpolated_frames_are_those_of_images():
  images = np.random.default_rng(0).normal(size=VIDEO).astype(np.float32)
  options = {'method': 'linear', 'granularity': 'sample'}
  video = jaxmix.draw_resizemix(KEY, VIDEO, spatial_axes=(2, 3), **options)
  frame = jaxmix.draw_resizemix(KEY, FRAMES, **options)
  found = np.asarray(jaxmix.apply(video, images))
  for t in range(VIDEO[1]):
    np.testing.assert_allclose(
      found[:, t], jaxmix.apply(frame, images[:, t]), atol=1e-5
    )


def test_cutout_fills_the_same_square_of_every_frame():
  box = jaxmix.draw_cutout(KEY, VIDEO, length=4, spatial_axes=(2, 3))
  frame = jaxmix.draw_cutout(KEY, FRAMES, length=4)
  np.testing.assert_array_equal(box[:, 1:], frame)
  np.testing.assert_array_equal(box[:, 0], [[0, 3]] * 5)
  filled, _ = jaxmix.cutout(
    KEY,
    CONSTANT + 1,
    np.arange(5),
    num_classes=5,
    length=4,
    spatial_axes=(2, 3),
  )
  np.testing.assert_array_equal(
    filled, jaxmix.fill_box(CONSTANT + 1, box, fill=0)
  )


def test_own_candidates_get_the_axes_that_are_named():
  shapes = []

  def candidate(key, shape, *, granularity, partner):
    shapes.append(shape)
    return jaxmix.draw_cutmix(
      key, shape, granularity=granularity, partner=partner
    )

  mix = jaxmix.draw_random_mix(
    KEY, VIDEO, candidates=(candidate,), spatial_axes=(2, 3)
  )
  assert shapes == [FRAMES]
  assert mix.box.shape == (5, 3, 2) and mix.spatial_shape == VIDEO[1:-1]


def test_the_saliency_of_a_video_is_that_of_its_mean_frame():
  saliency = np.random.default_rng(0).random(VIDEO[:-1]).astype(np.float32)
  options = {'candidates': ('saliency_mix',), 'pairing': 'roll'}
  mix = jaxmix.draw_random_mix(
    KEY, VIDEO, saliency=saliency, spatial_axes=(2, 3), **options
  )
  want = jaxmix.draw_random_mix(
    KEY, FRAMES, saliency=saliency.mean(1), **options
  )
  np.testing.assert_array_equal(mix.box[:, 1:], want.box)
  mixed, _ = jaxmix.random_mix(
    KEY, CONSTANT, np.arange(5), num_classes=5, spatial_axes=(2, 3), **options
  )
  own = np.asarray(mixed == CONSTANT)
  assert (own == own[:, :1]).all()


@pytest.mark.parametrize(
  'axes',
  [(), (0, 1), (3, 4), (4,), (-1,), (3, 2), (2, 2), (True, 2), 2, 'HW', (2.0,)],
)
@pytest.mark.parametrize('name', DRAWS)
def test_other_axes_are_refused(name, axes):
  call = functools.partial(DRAWS[name], shape=VIDEO, spatial_axes=axes)
  with pytest.raises(ValueError, match=r'spatial_axes=.*\[5, 3, 9, 12, 2\]'):
    jax.eval_shape(call, KEY)


# --- Layouts that cannot be told from others ---

NCHW, GREY = (8, 3, 32, 32), (8, 28, 28)
LAYOUTS = {
  NCHW: (r'transpose\(0, 2, 3, 1\)', (1, 2)),
  GREY: (r'images\[\.\.\., None\]', (1,)),
}
WITH_AXES = {**DRAWS, 'cutout': jaxmix.draw_cutout}


@pytest.mark.parametrize('shape', LAYOUTS)
@pytest.mark.parametrize('name', WITH_AXES)
def test_a_layout_without_channels_last_needs_named_axes(name, shape):
  words, axes = LAYOUTS[shape]
  call = functools.partial(WITH_AXES[name], shape=shape)
  with pytest.raises(ValueError, match=words):
    jax.eval_shape(call, KEY)
  drawn_mix = jax.eval_shape(functools.partial(call, spatial_axes=axes), KEY)
  if name == 'cutout':
    assert drawn_mix.shape == (8, len(axes), 2)
    return
  # What a draw accepts can be applied.
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  assert jax.eval_shape(jaxmix.apply, drawn_mix, images).shape == shape


ONE_CALL = {
  **drawn.MIX,
  **{
    name: getattr(jaxmix, name)
    for name in ('random_mix', 'cutout', 'saliency_mix', 'co_mixup')
  },
  'puzzle_mix': functools.partial(jaxmix.puzzle_mix, blocks=(2,)),
}
del ONE_CALL['mixup']


@pytest.mark.parametrize('name', ONE_CALL)
def test_the_one_call_functions_refuse_another_layout(name):
  call = functools.partial(ONE_CALL[name], num_classes=3)
  labels = jnp.zeros(8, int)
  for shape, (words, _) in LAYOUTS.items():
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(ValueError, match=words):
      jax.eval_shape(call, KEY, images, labels)


@pytest.mark.parametrize('shape', LAYOUTS)
def test_mixup_does_not_depend_on_the_layout(shape):
  images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  mix = jaxmix.draw_mixup(KEY, shape)
  lam = np.asarray(mix.lam).reshape([8] + [1] * (len(shape) - 1))
  want = lam * images + (1 - lam) * images[np.asarray(mix.partner)]
  np.testing.assert_allclose(jaxmix.apply(mix, images), want, atol=1e-6)


@pytest.mark.parametrize(
  'shape', [(8, 32, 32, 3), (8, 28, 30), (8, 7, 7), (8, 4, 4, 32), (8, 3, 8, 3)]
)
def test_other_shapes_are_drawn(shape):
  mix = jax.eval_shape(lambda key: jaxmix.draw_cutmix(key, shape), KEY)
  assert mix.box.shape == (8, len(shape) - 2, 2)
