"""Tests of argument checks: the message names the argument and its value."""

import dataclasses
import functools
import re
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from tests.jaxmix import drawn

KEY = jax.random.key(0)
SHAPE = (4, 6, 5, 3)
IMAGES = jnp.zeros(SHAPE)
LABELS = jnp.array([0, 1, 2, 0])
MIX = jaxmix.Mix(
  jnp.ones(4), jnp.arange(4, dtype=jnp.int32), jnp.zeros(4, jnp.int32)
)
NOT_FINITE = np.full((4, 3), 1 / 3, np.float32)
NOT_FINITE[2, 1:] = np.nan, np.inf
ALL_MIXES = {**drawn.MIX, 'random_mix': jaxmix.random_mix}
ALL_DRAWS = {
  **drawn.DRAW,
  'random_mix': jaxmix.draw_random_mix,
  'identity': jaxmix.draw_identity,
}


def raises(error, words, call):
  with pytest.raises(error) as info:
    call()
  message = str(info.value)
  for word in words:
    assert word in message, f'{word!r} is missing in {message!r}'


def trace(draw, **options):
  """Runs the checks of a draw without compiling what comes before them."""
  return jax.eval_shape(lambda key: draw(key, SHAPE, **options), KEY)


class Streams:
  """A stream of keys whose description has several lines, like nnx.Rngs."""

  def __call__(self):
    return KEY

  def __repr__(self):
    return 'Streams(\n  default=...\n)'


BAD_KEYS = {
  '0': 0,
  'None': None,
  'int32[4]': jnp.arange(4, dtype=jnp.int32),
  'float32[4, 6, 5, 3]': IMAGES,
  'key<fry>[2]': jax.random.split(KEY),
  'uint32[2, 2]': np.zeros((2, 2), np.uint32),
  'Streams': Streams(),
}


def test_a_stream_of_keys_is_told_to_give_one():
  key = cast(jax.Array, Streams())
  raises(TypeError, ['key', 'rngs()'], lambda: jaxmix.draw_mixup(key, SHAPE))


@pytest.mark.parametrize('name', ALL_MIXES)
@pytest.mark.parametrize('shown', BAD_KEYS)
def test_keys(name, shown):
  raises(
    TypeError,
    ['key', shown],
    lambda: ALL_MIXES[name](BAD_KEYS[shown], IMAGES, LABELS, num_classes=3),
  )


@pytest.mark.parametrize('name', ALL_DRAWS)
def test_keys_of_draws(name):
  raises(TypeError, ['key', '7'], lambda: ALL_DRAWS[name](7, SHAPE))


def test_old_keys_are_keys():
  partner = jaxmix.draw_identity(jax.random.PRNGKey(0), SHAPE).partner
  assert partner.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize('name', ALL_DRAWS)
def test_common_choices(name):
  draw = ALL_DRAWS[name]
  raises(
    ValueError,
    ['granularity', "'pixel'", "'batch'", "'sample'"],
    lambda: draw(KEY, SHAPE, granularity='pixel'),
  )
  raises(
    ValueError,
    ['images', '[6, 5]'],
    lambda: draw(KEY, (6, 5)),
  )
  raises(
    ValueError, ['images', '[4, 0, 5, 3]'], lambda: draw(KEY, (4, 0, 5, 3))
  )
  if name != 'identity':
    raises(
      ValueError,
      ['pairing', "'swap'", "'permutation'", "'roll'", "'flip'"],
      lambda: trace(draw, pairing='swap'),
    )


@pytest.mark.parametrize('name', ['mixup', 'cutmix', 'fmix', 'random_mix'])
@pytest.mark.parametrize(
  'alpha, error, words',
  [
    (0, ValueError, ['alpha', '0.0']),
    (-0.5, ValueError, ['alpha', '-0.5']),
    (np.inf, ValueError, ['alpha', 'inf']),
    (np.nan, ValueError, ['alpha', 'nan']),
    ('much', TypeError, ['alpha', "'much'"]),
    (None, TypeError, ['alpha', 'None']),
    ((0.2, 0.4), TypeError, ['alpha', '(0.2, 0.4)']),
  ],
)
def test_alpha(name, alpha, error, words):
  raises(error, words, lambda: trace(ALL_DRAWS[name], alpha=alpha))


def test_alpha_by_mode():
  def draw(alpha):
    return lambda: trace(jaxmix.draw_random_mix, alpha=alpha)

  raises(
    ValueError,
    ['alpha', "'resizemix'", "'mixup'", "'cutmix'", "'fmix'"],
    draw({'resizemix': 0.2}),
  )
  raises(ValueError, ['alpha', "'mixup'", '-1.0'], draw({'mixup': -1}))


@pytest.mark.parametrize('name', ['resizemix', 'random_mix'])
@pytest.mark.parametrize(
  'option, value, words',
  [
    ('scale', (0, 0.8), ['scale', '(0, 0.8)']),
    ('scale', (0.9, 0.8), ['scale', '(0.9, 0.8)']),
    ('scale', (0.1, 1.5), ['scale', '(0.1, 1.5)']),
    ('scale', (np.nan, 0.5), ['scale', 'nan']),
    ('scale', (0.1, 0.5, 0.8), ['scale', '(0.1, 0.5, 0.8)']),
    ('scale', 0.5, ['scale', '0.5']),
    ('scale', ('a', 'b'), ['scale', "'a'"]),
    ('method', 'lanczos', ['method', "'lanczos'", "'nearest'", "'cubic'"]),
  ],
)
def test_resizemix(name, option, value, words):
  draw = ALL_DRAWS[name]
  raises(ValueError, words, lambda: trace(draw, **{option: value}))


@pytest.mark.parametrize('name', ['fmix', 'random_mix'])
@pytest.mark.parametrize(
  'option, value, error, words',
  [
    ('spectrum', 'pink', ValueError, ["'pink'", "'isotropic'", "'official'"]),
    ('max_soft', 0.6, ValueError, ['max_soft', '0.6', '[0, 0.5]']),
    ('max_soft', -0.1, ValueError, ['max_soft', '-0.1', '[0, 0.5]']),
    ('max_soft', np.nan, ValueError, ['max_soft', 'nan']),
    ('decay_power', 0, ValueError, ['decay_power', '0', '0.001']),
    ('decay_power', np.inf, ValueError, ['decay_power', 'inf']),
    ('decay_power', 'steep', (TypeError, ValueError), ['decay_power', 'steep']),
    ('max_soft', 'very', (TypeError, ValueError), ['max_soft', 'very']),
  ],
)
def test_fmix(name, option, value, error, words):
  draw = ALL_DRAWS[name]
  raises(error, words, lambda: trace(draw, **{option: value}))


@pytest.mark.parametrize('name', ['fmix', 'random_mix'])
def test_fmix_has_at_most_three_axes(name):
  raises(
    ValueError,
    ['shape', '[2, 3, 3, 3, 3, 1]'],
    lambda: ALL_DRAWS[name](KEY, (2, 3, 3, 3, 3, 1)),
  )


@pytest.mark.parametrize(
  'options, error, words',
  [
    ({'candidates': ()}, ValueError, ['candidates', '()']),
    ({'candidates': 'mixup'}, ValueError, ['candidates', "'mixup'"]),
    (
      {'candidates': ('mixup', 'mosaic')},
      ValueError,
      ['candidate', "'mosaic'", "'identity'", "'mixup'", "'fmix'"],
    ),
    ({'weights': (1, 2, 3)}, ValueError, ['weights', '(1, 2, 3)', '4']),
    ({'weights': (1, 2, -1, 1)}, ValueError, ['weights', '-1']),
    ({'weights': (1, np.nan, 1, 1)}, ValueError, ['weights', 'nan']),
    ({'weights': (1, np.inf, 1, 1)}, ValueError, ['weights', 'inf']),
    ({'weights': (0, 0, 0, 0)}, ValueError, ['weights', '(0, 0, 0, 0)']),
    ({'weights': {'mosaic': 3}}, ValueError, ['weights', 'mosaic', 'mixup']),
    ({'weights': {'mixup': 0}}, ValueError, ['weights', "{'mixup': 0}"]),
    ({'weights': ('3', 1, 1, 1)}, TypeError, ['weights', "'3'"]),
    ({'weights': '3111'}, TypeError, ['weights', "'3111'"]),
    ({'weights': 3}, (TypeError, ValueError), ['weights', '3']),
    ({'weights': np.ones((4, 1))}, ValueError, ['weights', '4']),
  ],
)
def test_random_mix(options, error, words):
  draw = jaxmix.draw_random_mix
  raises(error, words, lambda: trace(draw, **options))


def test_traced_weights_of_another_length():
  def draw(weights):
    return jaxmix.draw_random_mix(KEY, SHAPE, weights=weights).lam

  raises(
    ValueError,
    ['weights', '4'],
    lambda: jax.eval_shape(draw, jnp.ones(3)),
  )


@pytest.mark.parametrize(
  'images, hard, error, words',
  [
    ([[1.0]], False, TypeError, ['images', 'list']),
    (jnp.zeros((4, 3)), False, ValueError, ['images', '[4, 3]']),
    (jnp.zeros(SHAPE, int), False, TypeError, ['images', 'int32']),
    (jnp.zeros(SHAPE, bool), False, TypeError, ['images', 'bool']),
    (
      jnp.zeros((5, 6, 5, 3)),
      False,
      ValueError,
      ['batch of 4', '[5, 6, 5, 3]'],
    ),
  ],
)
def test_apply(images, hard, error, words):
  raises(error, words, lambda: jaxmix.apply(MIX, images, hard=hard))


# --- Sizes that a draw is not for ---

SIZE = (8, 16, 16, 3)


def guided(draw, **options):
  return lambda key: draw(key, jnp.ones(SIZE[:-1]), **options)


SIZED = {
  **{
    mode: lambda key, mode=mode: drawn.DRAW[mode](key, SIZE)
    for mode in drawn.MASK_MODES
  },
  'bounds': lambda key: jaxmix.draw_cutmix(key, SIZE, max_share=0.5),
  'random_mix': lambda key: jaxmix.draw_random_mix(key, SIZE),
  'two': lambda key: jaxmix.draw_random_mix(
    key, SIZE, candidates=('mixup', 'cutmix'), granularity='sample'
  ),
  'saliency_mix': guided(jaxmix.draw_saliency_mix),
  'puzzle_mix': lambda key: jaxmix.draw_puzzle_mix(
    key, jnp.ones(SIZE[:-1]), jnp.ones(SIZE), blocks=(2,)
  ),
}


@pytest.mark.parametrize('name', SIZED)
def test_a_draw_of_another_size_is_refused(name):
  mix = jax.eval_shape(SIZED[name], KEY)
  assert mix.spatial_shape == SIZE[1:-1]
  for shape in [(8, 32, 32, 3), (8, 16, 12, 3), (8, 8, 16, 3)]:
    raises(
      ValueError,
      ['mix', '[16, 16]', str(list(shape))],
      lambda shape=shape: jax.eval_shape(
        jaxmix.apply, mix, jax.ShapeDtypeStruct(shape, jnp.float32)
      ),
    )
  # The number of channels does not matter.
  masks = jax.ShapeDtypeStruct((8, 16, 16, 1), jnp.float32)
  assert jax.eval_shape(jaxmix.apply, mix, masks).shape == masks.shape


@pytest.mark.parametrize('random', [False, True])
def test_mixup_is_applied_to_any_size(random):
  def draw(key):
    if random:
      return jaxmix.draw_random_mix(key, SIZE, candidates=('mixup', 'identity'))
    return jaxmix.draw_mixup(key, SIZE)

  images = jax.ShapeDtypeStruct((8, 9, 40, 1), jnp.float32)
  mix = jax.eval_shape(draw, KEY)
  assert jax.eval_shape(jaxmix.apply, mix, images).shape == images.shape


# --- Arguments that would broadcast the images ---


@pytest.mark.parametrize(
  'field, value',
  [
    ('lam', jnp.ones(3)),
    ('box', jnp.zeros((3, 2, 2), int)),
    ('box', jnp.zeros((2, 2), int)),
    ('mask', jnp.ones((3, 6, 5))),
    ('source', (jnp.zeros((3, 6), int), jnp.zeros((1, 5), int))),
    ('source', (jnp.zeros((1, 6), int), jnp.zeros((3, 5), int))),
    ('resized', jnp.ones(3, bool)),
    ('order', jnp.zeros((3, 2, 1, 1), int)),
  ],
)
def test_a_field_of_another_batch_is_refused(field, value):
  one = jaxmix.Mix(jnp.ones(1), jnp.zeros(1, jnp.int32))
  mix = dataclasses.replace(one, **{field: value})
  raises(
    ValueError,
    [f'mix.{field}', '[3' if field != 'box' else '2]', 'batch of 1'],
    lambda: jaxmix.apply(mix, IMAGES[:1]),
  )


@pytest.mark.parametrize(
  'fill, channels',
  [
    ((0.1, 0.2, 0.3), 1),
    (np.ones(4), 3),
    (np.ones((5, 3)), 3),
    (np.ones((4, 6, 5, 3)), 3),
    (np.ones((1, 1, 1, 3)), 3),
    (np.ones(1), 3),
  ],
)
def test_a_fill_of_another_shape_is_refused(fill, channels):
  images = IMAGES[..., :channels]
  words = ['fill=', str(list(np.shape(fill))), f'[{channels}]']
  boxes = jnp.zeros((4, 2, 2), int)
  raises(ValueError, words, lambda: jaxmix.fill_box(images, boxes, fill=fill))
  raises(
    ValueError,
    words,
    lambda: jaxmix.cutout(KEY, images, LABELS, num_classes=3, fill=fill),
  )


@pytest.mark.parametrize('fill', [0.5, (0, 256, 0), -1, np.nan])
def test_a_fill_that_uint8_cannot_hold_is_refused(fill):
  images, boxes = IMAGES.astype(jnp.uint8), jnp.zeros((4, 2, 2), int)
  raises(
    ValueError,
    ['fill=', 'uint8', '255'],
    lambda: jaxmix.fill_box(images, boxes, fill=fill),
  )


@pytest.mark.parametrize('owner', [np.full((4, 1, 1), 4), -np.ones((4, 1, 1))])
def test_owners_outside_the_batch_are_refused(owner):
  owner = jnp.asarray(owner, jnp.int32)
  words = ['owner', '[0, 4)', str(int(owner[0, 0, 0]))]
  raises(
    ValueError,
    words,
    lambda: jaxmix.block_labels(LABELS, owner, num_classes=3),
  )
  raises(
    ValueError,
    ['owner', 'float32'],
    lambda: jaxmix.block_labels(LABELS, owner * 1.0, num_classes=3),
  )


# --- Shapes without a batch or a channel axis ---


@pytest.mark.parametrize('shape', [(16,), (4, 16000), (28, 28)])
@pytest.mark.parametrize('name', ALL_DRAWS)
def test_sound_and_grey_images_need_a_channel_axis(name, shape):
  words = [str(list(shape)), 'images[..., None]', 'images[None]']
  raises(
    ValueError,
    words,
    lambda: jax.eval_shape(lambda key: ALL_DRAWS[name](key, shape), KEY),
  )


def test_masks_without_channels_and_lone_images_are_told_what_to_write():
  mix = jax.eval_shape(SIZED['cutmix'], KEY)
  masks = jax.ShapeDtypeStruct((8, 16, 16), jnp.int32)
  hard = functools.partial(jaxmix.apply, hard=True)
  raises(
    ValueError,
    ['[8, 16, 16]', 'images[..., None]'],
    lambda: jax.eval_shape(hard, mix, masks),
  )
  lone = jax.ShapeDtypeStruct((16, 16, 3), jnp.float32)
  raises(
    ValueError,
    ['[16, 16, 3]', 'images[None]'],
    lambda: jax.eval_shape(jaxmix.apply, mix, lone),
  )


@functools.cache
def structure(mode):
  return jax.eval_shape(lambda key: drawn.DRAW[mode](key, (7, 9, 12, 2)), KEY)


@pytest.mark.parametrize(
  'mode, shape',
  [(mode, (7, 9, 12, 3, 1)) for mode in drawn.MODES]
  + [(mode, (7, 9, 2)) for mode in drawn.MODES]
  + [(mode, (7, 9, 11, 2)) for mode in ('resizemix', 'fmix')],
)
def test_apply_to_other_spatial_axes(mode, shape):
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  raises(
    ValueError,
    ['mix', str(list(shape))],
    lambda: jax.eval_shape(jaxmix.apply, structure(mode), images),
  )


@pytest.mark.parametrize(
  'labels, classes, error, words',
  [
    ([0, 1, 2, 0], 3, TypeError, ['labels', 'list']),
    (LABELS[:3], 3, ValueError, ['labels', '[3]', '4']),
    (LABELS[:, None, None], 3, ValueError, ['labels', '[4, 1, 1]']),
    (LABELS, None, ValueError, ['num_classes=None']),
    (LABELS, 0, ValueError, ['num_classes=0']),
    (LABELS, 2.0, ValueError, ['num_classes=2.0']),
    (LABELS, 2, ValueError, ['labels', '[0, 2)', 'num_classes=2', '2']),
    (LABELS - 1, 3, ValueError, ['labels', '[0, 3)', '-1']),
    (LABELS * 1.0, 3, TypeError, ['labels', 'float32']),
    (LABELS > 0, 3, TypeError, ['labels', 'bool']),
    (
      jnp.full((4, 3), 2),
      None,
      ValueError,
      ['labels', '0 or 1', '2 at [0, 0]'],
    ),
    (jnp.ones((4, 3), 'c8'), None, TypeError, ['labels', 'complex64']),
    (LABELS[:1], 3, ValueError, ['labels', '[1]', '4', 'images[None]']),
    (LABELS[0], 3, ValueError, ['labels', '[]', 'images[None]']),
    (LABELS[:, None], 3, ValueError, ['num_classes=3', 'labels[:, 0]']),
    (LABELS * 0.5, 3, TypeError, ['labels', 'float32', 'labels[:, None]']),
    (jnp.zeros((4, 3)), 5, ValueError, ['num_classes=5', '[4, 3]']),
    (np.array([0, 255, 2, 0], 'u1'), 3, ValueError, ['[0, 3)', '255']),
    (np.array([0, 1, 2, 2**32]), 3, ValueError, ['[0, 3)', '4294967296']),
    (NOT_FINITE, 3, ValueError, ['labels', 'nan at [2, 1]']),
    (jnp.asarray(NOT_FINITE), None, ValueError, ['labels', 'nan at [2, 1]']),
  ],
)
@pytest.mark.parametrize('way', ['mix_labels', 'random_mix'])
def test_labels(way, labels, classes, error, words):
  if way == 'mix_labels':
    raises(
      error,
      words,
      lambda: jaxmix.mix_labels(MIX, labels, num_classes=classes),
    )
  else:
    raises(
      error,
      words,
      lambda: jaxmix.random_mix(
        KEY, IMAGES, labels, num_classes=classes, candidates=('identity',)
      ),
    )


@pytest.mark.parametrize(
  'logits, labels, error, words',
  [
    (jnp.zeros(4), LABELS, ValueError, ['logits', '[4]']),
    (
      jnp.zeros((4, 3)),
      jnp.zeros((4, 3)),
      ValueError,
      ['labels', '[4, 3]', 'mix_labels', 'mixed_sigmoid_cross_entropy'],
    ),
    (jnp.zeros((4, 3)), LABELS[:2], ValueError, ['labels', '[2]', '4']),
    (jnp.zeros((4, 2)), LABELS, ValueError, ['labels', '[0, 2)', '2']),
    (jnp.zeros((4, 3)), LABELS * 1.0, TypeError, ['labels', 'float32']),
  ],
)
def test_mixed_cross_entropy(logits, labels, error, words):
  raises(error, words, lambda: jaxmix.mixed_cross_entropy(logits, labels, MIX))


@pytest.mark.parametrize(
  'labels, error, words',
  [
    (jnp.zeros((4, 2)), ValueError, ['num_classes=3', '[4, 2]']),
    (jnp.full((4, 3), 1.5), ValueError, ['labels', '[0, 1]', '1.5 at [0, 0]']),
    (jnp.full((4, 3), -1), ValueError, ['labels', '0 or 1', '-1 at [0, 0]']),
    (LABELS + 1, ValueError, ['labels', '[0, 3)', '3']),
  ],
)
def test_labels_of_the_sigmoid(labels, error, words):
  raises(
    error,
    words,
    lambda: jaxmix.mixed_sigmoid_cross_entropy(jnp.zeros((4, 3)), labels, MIX),
  )


LABEL_CALLS = {
  'mix_labels': lambda **o: jaxmix.mix_labels(MIX, LABELS, num_classes=3, **o),
  'block_labels': lambda **o: jaxmix.block_labels(
    LABELS, jnp.zeros((4, 2, 2), int), num_classes=3, **o
  ),
  'mixed_cross_entropy': lambda **o: jaxmix.mixed_cross_entropy(
    jnp.zeros((4, 3)), LABELS, MIX, **o
  ),
  'mixed_sigmoid_cross_entropy': lambda **o: jaxmix.mixed_sigmoid_cross_entropy(
    jnp.zeros((4, 3)), LABELS, MIX, **o
  ),
  'random_mix': lambda **o: jaxmix.random_mix(
    KEY, IMAGES, LABELS, num_classes=3, candidates=('identity',), **o
  ),
}


@pytest.mark.parametrize('name', LABEL_CALLS)
@pytest.mark.parametrize('smoothing', [-0.1, 1.1, np.nan])
def test_label_smoothing(name, smoothing):
  raises(
    ValueError,
    ['label_smoothing', str(smoothing), '[0, 1]'],
    lambda: LABEL_CALLS[name](label_smoothing=smoothing),
  )


@pytest.mark.parametrize('name', LABEL_CALLS)
@pytest.mark.parametrize(
  'where, error, words',
  [
    (LABELS, TypeError, ['where', 'int32', 'labels != -1']),
    ([True] * 4, TypeError, ['where', 'list']),
    (LABELS[:3] > 0, ValueError, ['where', '[4]', '[3]']),
    (jnp.ones((4, 2), bool), ValueError, ['where', '[4]', '[4, 2]']),
    (jnp.ones((4, 3), bool), ValueError, ['where', '[4]', '[4, 3]']),
  ],
)
def test_where(name, where, error, words):
  raises(error, words, lambda: LABEL_CALLS[name](where=where))


@pytest.mark.parametrize(
  'bad, dtype',
  [(np.nan, 'float32'), (np.inf, 'bfloat16'), (-np.inf, 'float16')],
)
def test_images_of_random_mix_are_finite(bad, dtype):
  images = np.ones(SHAPE, jnp.dtype(dtype))
  images[1, 5, 4, 2] = bad
  images = jnp.asarray(images)
  for given in images, np.asarray(images):
    raises(
      ValueError,
      ['images', f'{bad} at [1, 5, 4, 2]'],
      lambda given=given: jaxmix.random_mix(
        KEY, given, LABELS, num_classes=3, candidates=('identity',)
      ),
    )

  # Under jit they are not known; and a constant is known there too.
  def mix(images):
    return jaxmix.random_mix(
      KEY, images, LABELS, num_classes=3, candidates=('identity',)
    )[0]

  assert jax.eval_shape(mix, images).shape == SHAPE
  raises(ValueError, ['images'], lambda: jax.eval_shape(lambda: mix(images)))


@pytest.mark.parametrize(
  'bad, granularity', [(-1, 'batch'), (3, 'sample'), (255, 'sample')]
)
def test_a_bad_label_of_random_mix_under_jit_is_nan(bad, granularity):
  @jax.jit
  def labels_of(labels):
    return jaxmix.random_mix(
      KEY,
      IMAGES,
      labels,
      num_classes=3,
      candidates=('mixup',),
      granularity=granularity,
    )[1]

  dtype = 'uint8' if bad == 255 else 'int32'
  bad_labels = np.array([0, 1, bad, 0], dtype)
  dense = np.asarray(labels_of(bad_labels))
  mix = jaxmix.draw_random_mix(
    KEY, SHAPE, candidates=('mixup',), granularity=granularity
  )
  touched = (np.arange(4) == 2) | (np.asarray(mix.partner) == 2)
  assert (np.isnan(dense).any(1) == touched).all()


def test_messages_end_like_sentences():
  with pytest.raises(ValueError) as info:
    jaxmix.draw_cutmix(KEY, SHAPE, alpha=-1)
  assert re.fullmatch(r'\S.*\.', str(info.value))


def test_checks_under_jit_know_shapes_but_not_values():
  def mix(alpha, labels):
    mixed = jaxmix.mix_labels(MIX, labels, num_classes=3)
    return jaxmix.draw_mixup(KEY, SHAPE, alpha=alpha).lam, mixed

  lam, mixed = jax.eval_shape(mix, jnp.float32(-1), LABELS + 7)
  assert lam.shape == (4,) and mixed.shape == (4, 3)
  with pytest.raises(ValueError, match='labels'):
    jax.eval_shape(mix, jnp.float32(1), LABELS[:3])


def test_known_labels_are_checked_inside_jit_too():
  # A batch that is a constant of the program, as in a test or a benchmark.
  def loss(logits):
    return jaxmix.mixed_cross_entropy(logits, LABELS, MIX)

  def labels(logits):
    return jaxmix.mix_labels(MIX, LABELS, num_classes=logits.shape[1])

  for call in (loss, labels):
    jax.eval_shape(call, jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match=r'labels.*\[0, 2\)'):
      jax.eval_shape(call, jnp.zeros((4, 2)))
