"""Tests of the options that the functions that mix in one call share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from tests.jaxmix import drawn

BATCH, CLASSES = 4, 3
SHAPE = (BATCH, 8, 8, 2)
rng = np.random.default_rng(0)
IMAGES = jnp.asarray(rng.normal(size=SHAPE), jnp.float32)
OTHERS = jnp.asarray(rng.normal(size=SHAPE), jnp.float32)
LABELS, OTHER_LABELS = jnp.array([0, 2, 1, 0]), jnp.array([1, 1, 0, 2])
LENGTHS = jnp.array([8, 3, 1, 5])
HOLES = jnp.array([0, -1, 1, 0])
KEY = jax.random.key(3)
# Two candidates: a switch of four takes long to compile.
random_mix = functools.partial(
  jaxmix.random_mix, candidates=('mixup', 'resizemix')
)
PAIRS = {**drawn.MIX, 'random_mix': random_mix}
ALL = {
  **PAIRS,
  'cutout': functools.partial(jaxmix.cutout, length=4),
  'saliency_mix': jaxmix.saliency_mix,
  'puzzle_mix': functools.partial(
    jaxmix.puzzle_mix, blocks=(2,), levels=2, transport_cost=None
  ),
  'co_mixup': functools.partial(jaxmix.co_mixup, grid=2, sweeps=1),
}


GUIDED = ('saliency_mix', 'puzzle_mix', 'co_mixup')


@pytest.mark.parametrize(
  'name',
  [pytest.param(n, marks=[pytest.mark.slow] * (n in GUIDED)) for n in ALL],
)
def test_labels_are_smoothed_and_left_out(name):
  mix = functools.partial(ALL[name], KEY)

  @drawn.quick
  def both(images, labels, where):
    got = mix(
      images, labels, num_classes=CLASSES, label_smoothing=0.3, where=where
    )
    # How much of each label a mixed label has.
    return got[1], mix(images, jnp.arange(BATCH), num_classes=BATCH)[1]

  got, weights = both(IMAGES, HOLES, HOLES != -1)
  smooth = 0.7 * np.eye(CLASSES)[np.asarray(HOLES)] + 0.1
  smooth[1] = 0
  np.testing.assert_allclose(got, weights @ smooth, atol=1e-6)


def draw_alone(name, key):
  """Returns the draw of `name` for a second batch."""
  if name == 'random_mix':
    draw = functools.partial(
      jaxmix.draw_random_mix, candidates=('mixup', 'resizemix')
    )
  else:
    draw = drawn.DRAW[name]
  return draw(key, SHAPE, partner=jnp.arange(BATCH))


@pytest.mark.parametrize('name', PAIRS)
def test_a_second_batch_is_the_partner(name):
  """As if both batches were one, whose second half holds the partners."""

  @drawn.quick
  def both(key, images, labels, others, other_labels):
    got = PAIRS[name](
      key,
      images,
      labels,
      num_classes=CLASSES,
      partner_images=others,
      partner_labels=other_labels,
    )
    mix = draw_alone(name, key)
    # The draw, repeated for a batch of both; its second half is not used.
    twice = jax.tree.map(
      lambda x: jnp.concatenate([x, x]) if len(x) == BATCH else x, mix
    )
    twice = jaxmix.Mix(**{**vars(twice), 'partner': jnp.arange(8) % 4 + 4})
    want = (
      jaxmix.apply(twice, jnp.concatenate([images, others]))[:BATCH],
      jaxmix.mix_labels(
        twice,
        jnp.concatenate([labels, other_labels]),
        num_classes=CLASSES,
      )[:BATCH],
    )
    return got, want

  got, want = both(KEY, IMAGES, LABELS, OTHERS, OTHER_LABELS)
  np.testing.assert_allclose(got[0], want[0], atol=1e-6)
  np.testing.assert_allclose(got[1], want[1], atol=1e-6)
  assert (got[0] != IMAGES).any(), 'nothing was mixed'


alone = drawn.quick(jaxmix.apply)


@pytest.mark.parametrize(
  'mode, way',
  [(mode, 'jit') for mode in drawn.MODES]
  + [('cutmix', 'eager'), ('resizemix', 'eager')]
  + [('resizemix', 'vmap'), ('linear', 'vmap')],
)
def test_apply_reads_partners_from_a_second_batch(mode, way):
  draw = drawn.DRAW.get(
    mode, functools.partial(jaxmix.draw_resizemix, method='linear')
  )
  mix = drawn.quick(lambda key: draw(key, SHAPE, granularity='sample'))(KEY)

  def apply(images, others):
    return jaxmix.apply(mix, images, partner_images=others)

  call = apply
  if way == 'jit':
    call = drawn.quick(apply)
  elif way == 'vmap':
    call = drawn.quick(
      lambda *pair: jax.vmap(apply)(*(jnp.stack([x, x]) for x in pair))[1]
    )
  # The mixing is linear in both batches, and a batch may be its own second.
  zero = jnp.zeros(SHAPE)
  np.testing.assert_allclose(
    call(IMAGES, OTHERS),
    call(IMAGES, zero) + alone(mix, OTHERS) - call(OTHERS, zero),
    atol=1e-5,
  )
  np.testing.assert_allclose(
    call(IMAGES, IMAGES), alone(mix, IMAGES), atol=1e-6
  )


def test_saliency_is_that_of_the_second_batch():
  others = jnp.zeros(SHAPE).at[:, 6, 1].set(1)

  @drawn.quick
  def mix(saliency):
    return [
      jaxmix.random_mix(
        KEY,
        jnp.full(SHAPE, -1.0),
        LABELS,
        num_classes=CLASSES,
        candidates=('saliency_mix',),
        saliency=given,
        partner_images=others,
        partner_labels=OTHER_LABELS,
      )[0]
      for given in (saliency, None)
    ]

  for images in mix(others[..., 0]):
    np.testing.assert_array_equal(images[:, 6, 1], 1)


@pytest.mark.parametrize('name', PAIRS)
def test_lengths_change_the_labels(name):
  @drawn.quick
  def both(key, lengths):
    got = PAIRS[name](key, IMAGES, LABELS, num_classes=CLASSES, lengths=lengths)
    draw = drawn.DRAW.get(
      name,
      functools.partial(
        jaxmix.draw_random_mix, candidates=('mixup', 'resizemix')
      ),
    )
    mix = draw(key, SHAPE)
    labels = jaxmix.mix_labels(
      jaxmix.with_lengths(mix, lengths), LABELS, num_classes=CLASSES
    )
    plain = jaxmix.mix_labels(mix, LABELS, num_classes=CLASSES)
    return got, (jaxmix.apply(mix, IMAGES), labels), plain

  got, want, plain = both(KEY, LENGTHS)
  np.testing.assert_allclose(got[0], want[0], atol=1e-6)
  np.testing.assert_allclose(got[1], want[1], atol=1e-6)
  assert (np.abs(got[1] - plain) > 1e-3).any()


@pytest.mark.parametrize('second', [False, True], ids=['one', 'two batches'])
def test_options_outside_jit_and_under_vmap(second):
  def mix(images, labels, where, lengths, others):
    options = {'lengths': lengths}
    if second:
      options = {'partner_images': others, 'partner_labels': OTHER_LABELS}
    return jaxmix.mixup(
      KEY,
      images,
      labels,
      num_classes=CLASSES,
      label_smoothing=0.1,
      where=where,
      **options,
    )

  args = IMAGES, HOLES, HOLES != -1, LENGTHS, OTHERS
  want = drawn.quick(mix)(*args)
  batched = drawn.quick(jax.vmap(mix))(*(jnp.stack([x, x]) for x in args))
  for got in (mix(*args), [x[1] for x in batched]):
    np.testing.assert_allclose(got[0], want[0], atol=1e-6)
    np.testing.assert_allclose(got[1], want[1], atol=1e-6)


def mix_named(name):
  return lambda **options: PAIRS[name](
    KEY, IMAGES, LABELS, num_classes=CLASSES, **options
  )


@pytest.mark.parametrize('name', PAIRS)
@pytest.mark.parametrize(
  'options, error, words',
  [
    ({'partner_images': OTHERS}, ValueError, ['partner_labels=None']),
    ({'partner_labels': LABELS}, ValueError, ['partner_images=None']),
    (
      {'partner_images': OTHERS[:3], 'partner_labels': LABELS},
      ValueError,
      ['partner_images', '[3, 8, 8, 2]', '[4, 8, 8, 2]'],
    ),
    (
      {'partner_images': OTHERS.astype('bfloat16'), 'partner_labels': LABELS},
      ValueError,
      ['partner_images', 'bfloat16', 'float32'],
    ),
    (
      {'partner_images': 7, 'partner_labels': LABELS},
      TypeError,
      ['partner_images', 'int'],
    ),
    (
      {'partner_images': OTHERS, 'partner_labels': jnp.ones((BATCH, CLASSES))},
      ValueError,
      ['partner_labels', '[4, 3]', '[4]'],
    ),
    (
      {
        'partner_images': OTHERS,
        'partner_labels': LABELS,
        'lengths': LENGTHS,
      },
      ValueError,
      ['lengths', 'partner_images'],
    ),
    ({'lengths': LENGTHS + 1}, ValueError, ['lengths', '9', '8']),
  ],
)
def test_invalid_options(name, options, error, words):
  # Traced, so that what comes before the check is not computed.
  with pytest.raises(error) as info:
    jax.eval_shape(lambda: mix_named(name)(**options))
  for word in words:
    assert word in str(info.value)


def test_pixels_of_the_second_batch_are_finite():
  others = OTHERS.at[2, 1, 0, 1].set(jnp.nan)
  with pytest.raises(
    ValueError, match=r'partner_images.*nan at \[2, 1, 0, 1\]'
  ):
    jax.eval_shape(
      lambda: mix_named('random_mix')(
        partner_images=others, partner_labels=LABELS
      )
    )
