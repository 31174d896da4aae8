"""Tests of spatial_axes: which axes boxes and masks vary over."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from tests.jaxmix import drawn, reference

VIDEO = (5, 3, 9, 12, 2)  # [B, T, H, W, C]
FRAMES = (5, 9, 12, 2)
KEY = jax.random.key(5)
DRAWS = {mode: drawn.DRAW[mode] for mode in drawn.MASK_MODES}
DRAWS['random_mix'] = jaxmix.draw_random_mix
# Every image has one value, its number: a pixel tells where it is from.
CONSTANT = np.broadcast_to(
  np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1, 1), VIDEO
)


# Batches are mixed by one of four modes, samples by each mode.
AXES = {
  'batch': {'random_mix': [(2, 3)]},
  'sample': {
    'cutmix': [None, (1,), (2, 3), (1, 3), (1, 2, 3)],
    'resizemix': [(1,), (2, 3)],
    'fmix': [(1,), (2, 3)],
    'random_mix': [(2, 3)],
  },
}
CASES = [(name, g) for g, names in AXES.items() for name in names]


@functools.cache
def draws(granularity):
  """Four draws of everything, for videos by axes and for frames, stacked."""

  def draw(key):
    options = {'granularity': granularity, 'pairing': 'roll'}
    result = {}
    for name, each_axes in AXES[granularity].items():
      function = DRAWS[name]
      result[f'{name} frame'] = function(key, FRAMES, **options)
      for axes in each_axes:
        result[f'{name} {axes}'] = function(
          key, VIDEO, spatial_axes=axes, **options
        )
    return result

  keys = jax.random.split(KEY, 16)
  return jax.device_get(drawn.quick(lambda k: jax.lax.map(draw, k))(keys))


def each(name, axes, granularity='sample'):
  stacked = draws(granularity)[f'{name} {axes}']
  return [drawn.one_draw(stacked, i) for i in range(16)]


def own_weight(mix):
  return reference.own_weight(mix, VIDEO[1:-1])


@pytest.mark.parametrize('name, granularity', CASES)
def test_every_frame_is_mixed_like_an_image(name, granularity):
  images = np.random.default_rng(0).normal(size=VIDEO).astype(np.float32)
  videos, frames = (each(name, a, granularity) for a in ((2, 3), 'frame'))
  if name == 'random_mix':
    modes = np.unique([mix.mode for mix in videos])
    assert modes.tolist() == [0, 1, 2, 3], 'take other keys'
  for video, frame in zip(videos, frames, strict=True):
    np.testing.assert_array_equal(video.lam, frame.lam)
    assert video.spatial_shape == VIDEO[1:-1]
    found = reference.apply_mix(video, images)
    for t in range(VIDEO[1]):
      want = reference.apply_mix(frame, images[:, t])
      np.testing.assert_array_equal(found[:, t], want)


def test_a_draw_of_named_axes_is_applied_like_any_other():
  images = np.random.default_rng(0).normal(size=VIDEO).astype(np.float32)
  apply = drawn.quick(jaxmix.apply)
  for mix in each('random_mix', (2, 3)):
    np.testing.assert_allclose(
      apply(mix, images), reference.apply_mix(mix, images), atol=1e-6
    )


@pytest.mark.parametrize('name', drawn.MASK_MODES)
def test_whole_frames(name):
  for mix in each(name, (1,)):
    own = own_weight(mix)
    assert (own == own[:, :, :1, :1]).all()


def test_a_box_in_time_and_space_by_default():
  for mix, named in zip(
    each('cutmix', None), each('cutmix', (1, 2, 3)), strict=True
  ):
    np.testing.assert_array_equal(mix.box, named.box)
  own = own_weight(each('cutmix', None)[0])
  assert (own != own[:, :1]).any(), 'all frames are the same'
  assert (own != own[:, :, :1]).any()


@pytest.mark.parametrize('name, granularity', CASES)
def test_labels_are_the_fractions_of_pixels(name, granularity):
  for axes in AXES[granularity][name]:
    for mix in each(name, axes, granularity):
      share = own_weight(mix).mean((1, 2, 3))
      np.testing.assert_allclose(mix.lam, share, atol=1e-6)


def test_the_one_call_functions_have_it():
  @drawn.quick
  def run(key, images, labels):
    options = {'spatial_axes': (2, 3), 'granularity': 'sample'}
    return {
      mode: drawn.MIX[mode](
        key, images, labels, num_classes=5, pairing='roll', **options
      )
      for mode in drawn.MASK_MODES
    }

  key = jax.random.split(KEY, 8)[0]
  for mode, (mixed, labels) in run(key, CONSTANT, np.arange(5)).items():
    mix = each(mode, (2, 3))[0]
    np.testing.assert_array_equal(mixed, reference.apply_mix(mix, CONSTANT))
    own = np.asarray(labels)[np.arange(5), np.arange(5)]
    same = np.mean(np.asarray(mixed) == CONSTANT, axis=(1, 2, 3, 4))
    np.testing.assert_allclose(own, same, atol=1e-6)


def test_interpolated_frames_are_those_of_images():
  images = np.random.default_rng(0).normal(size=VIDEO).astype(np.float32)

  @drawn.quick
  def run(images):
    draw = functools.partial(
      jaxmix.draw_resizemix, key=KEY, method='linear', granularity='sample'
    )
    video = draw(shape=VIDEO, spatial_axes=(2, 3))
    frame = draw(shape=FRAMES)
    one_by_one = jax.vmap(lambda x: jaxmix.apply(frame, x), 1, 1)
    return jaxmix.apply(video, images), one_by_one(images)

  np.testing.assert_allclose(*run(images), atol=1e-5)


def test_cutout_fills_the_same_square_of_every_frame():
  @drawn.quick
  def run(images, labels):
    options = {'length': 4, 'spatial_axes': (2, 3)}
    return (
      jaxmix.draw_cutout(KEY, VIDEO, **options),
      jaxmix.draw_cutout(KEY, FRAMES, length=4),
      jaxmix.cutout(KEY, images, labels, num_classes=5, **options)[0],
    )

  box, frame, filled = run(CONSTANT + 1, np.arange(5))
  np.testing.assert_array_equal(box[:, 1:], frame)
  np.testing.assert_array_equal(box[:, 0], [[0, 3]] * 5)
  for one, ((top, bottom), (left, right)) in zip(filled, frame, strict=True):
    assert not one[:, top:bottom, left:right].any()
    count = np.count_nonzero(one[..., 0])
    assert count == 3 * (9 * 12 - (bottom - top) * (right - left))


def test_own_candidates_get_the_axes_that_are_named():
  shapes = []

  def candidate(key, shape, *, granularity, partner):
    shapes.append(shape)
    return jaxmix.draw_cutmix(
      key, shape, granularity=granularity, partner=partner
    )

  mix = jax.eval_shape(
    lambda key: jaxmix.draw_random_mix(
      key, VIDEO, candidates=(candidate,), spatial_axes=(2, 3)
    ),
    KEY,
  )
  assert shapes == [FRAMES]
  assert mix.box.shape == (5, 3, 2) and mix.spatial_shape == VIDEO[1:-1]


def test_the_saliency_of_a_video_is_that_of_its_mean_frame():
  saliency = np.random.default_rng(0).random(VIDEO[:-1]).astype(np.float32)
  options = {'candidates': ('saliency_mix',), 'pairing': 'roll'}

  @drawn.quick
  def run(saliency, images, labels):
    mix = jaxmix.draw_random_mix(
      KEY, VIDEO, saliency=saliency, spatial_axes=(2, 3), **options
    )
    frame = jaxmix.draw_random_mix(
      KEY, FRAMES, saliency=saliency.mean(1), **options
    )
    mixed, _ = jaxmix.random_mix(
      KEY, images, labels, num_classes=5, spatial_axes=(2, 3), **options
    )
    return mix, frame, mixed

  mix, frame, mixed = run(saliency, CONSTANT, np.arange(5))
  np.testing.assert_array_equal(mix.box[:, 1:], frame.box)
  own = np.asarray(mixed == CONSTANT)
  assert (own == own[:, :1]).all() and own.any() and not own.all()


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
