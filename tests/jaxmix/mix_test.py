"""Tests that hold for every mode: labels, pixels, copies and gradients."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from jaxmix._src import ratio
from tests.jaxmix import drawn, reference
from tests.jaxmix.drawn import GRANULARITIES, IMAGES, MASK_MODES, MODES

DRAWS = {
  f'{mode}-{granularity}': lambda k=(mode, granularity): drawn.modes()[k]
  for mode in MODES
  for granularity in GRANULARITIES
}
MASK_DRAWS = {
  **{name: d for name, d in DRAWS.items() if not name.startswith('mixup')},
  'random-images-batch': lambda: drawn.random_masks('images', 'batch'),
  'random-images-sample': lambda: drawn.random_masks('images', 'sample'),
  'random-series-sample': lambda: drawn.random_masks('series', 'sample'),
  'random-volume-sample': lambda: drawn.random_masks('volume', 'sample'),
  'random-lone-batch': lambda: drawn.random_masks('lone', 'batch'),
}
SLOW = ('random-images-batch', 'random-series-sample')  # other programs


def marks(name):
  return [pytest.mark.slow] if name in SLOW else []


def marked(names):
  return [pytest.param(name, marks=marks(name)) for name in names]


apply_all = jax.jit(jax.vmap(jaxmix.apply, in_axes=(0, None)))
apply_all_hard = jax.jit(
  jax.vmap(lambda mix, x: jaxmix.apply(mix, x, hard=True), in_axes=(0, None))
)
apply_once = jax.jit(jaxmix.apply)


def shape_of(name):
  return drawn.SHAPES.get(name.split('-')[1], IMAGES)


def numbered(shape, dtype):
  """Returns images where image `i` is `i` everywhere."""
  index = np.arange(shape[0]).reshape([-1] + [1] * (len(shape) - 1))
  return jnp.asarray(np.broadcast_to(index, shape), dtype)


def owners(mixes, shape, dtype, hard=False):
  """Returns the image each pixel comes from: int `[COUNT, B, *spatial]`."""
  run = apply_all_hard if hard else apply_all
  pixels = np.asarray(run(mixes, numbered(shape, dtype)).astype(np.float32))
  assert (pixels == pixels[..., :1]).all(), 'channels were mixed differently'
  assert (pixels == np.round(pixels)).all(), 'a mask mode blended two images'
  return pixels[..., 0].astype(int)


def dense_labels(mixes, batch):
  labels = jnp.arange(batch)
  return np.asarray(
    jax.vmap(lambda m: jaxmix.mix_labels(m, labels, num_classes=batch))(mixes)
  )


CASES = [
  pytest.param(name, 'float32', marks=marks(name)) for name in MASK_DRAWS
] + [('random-images-sample', dtype) for dtype in ('bfloat16', 'uint8', 'hard')]


@pytest.mark.parametrize('name, dtype', CASES)
def test_labels_are_the_fractions_of_the_pixels(name, dtype):
  mixes, shape = MASK_DRAWS[name](), shape_of(name)
  hard = dtype == 'hard'
  owner = owners(mixes, shape, 'int32' if hard else dtype, hard)
  owner = owner.reshape(drawn.COUNT, shape[0], -1)
  fraction = (owner[..., None] == np.arange(shape[0])).mean(2)
  # A sample that is its own partner counts wholly as its own on both sides.
  np.testing.assert_allclose(
    dense_labels(mixes, shape[0]),
    fraction,
    atol=1e-6,
    err_msg='a label is not the fraction of its pixels',
  )
  mixed = (fraction.max(-1) < 1).any()
  assert mixed == (shape[0] > 1), 'nothing was mixed, or a lone image was'


@pytest.mark.parametrize('name', marked(MASK_DRAWS))
def test_lam_is_the_fraction_outside_the_paste(name):
  # Seen on the weights, so that fixed points of the pairing count too.
  mixes, shape = MASK_DRAWS[name](), shape_of(name)
  for i in range(drawn.COUNT):
    mix = drawn.one_draw(mixes, i)
    weight = reference.own_weight(mix, shape[1:-1])
    np.testing.assert_allclose(
      mix.lam, weight.reshape(shape[0], -1).mean(1), atol=1e-6
    )


@pytest.mark.parametrize('name', marked([*DRAWS, *list(MASK_DRAWS)[-5:]]))
def test_apply_is_the_formula(name):
  mixes = (DRAWS | MASK_DRAWS)[name]()
  shape = shape_of(name)
  images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  got = np.asarray(apply_all(mixes, images))
  want = np.stack(
    [
      reference.apply_mix(drawn.one_draw(mixes, i), images)
      for i in range(drawn.COUNT)
    ]
  )
  if name.startswith('mixup'):
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
  else:
    np.testing.assert_array_equal(got, want, 'a copied pixel was changed')


@pytest.mark.parametrize('name', marked([*DRAWS, *list(MASK_DRAWS)[-5:]]))
def test_partners_are_permutations(name):
  partner = np.asarray((DRAWS | MASK_DRAWS)[name]().partner)
  assert partner.dtype == np.int32
  everyone = np.arange(partner.shape[1])
  assert (np.sort(partner, 1) == everyone).all(), (
    'a sample is used as partner twice or never'
  )


def special_values(shape, dtype):
  """Returns zeros of both signs, infinities, NaN, small and large numbers."""
  rng = np.random.default_rng(1)
  if dtype == 'uint8':
    return jnp.asarray(rng.integers(0, 256, shape), np.uint8)
  values = rng.choice(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, -1.7, 300.0], shape
  )
  return jnp.asarray(values, dtype)


def as_bits(array):
  array = np.asarray(array)
  return array.view(f'u{array.dtype.itemsize}')


KEEPING = {
  'identity': 'batch',
  'mixup': 'sample',
  'cutmix': 'batch',
  'fmix': 'sample',
}


@pytest.fixture(scope='module')
def keeping_draws():
  """Draws with a Beta that always returns 1: samples keep all their pixels."""

  def draw(key):
    return {
      mode: jaxmix.draw_random_mix(
        key, IMAGES, candidates=(mode,), alpha=0.5, granularity=granularity
      )
      for mode, granularity in KEEPING.items()
    }

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(ratio, 'beta_of', lambda u, v, alpha: jnp.ones(u.shape))
    return drawn.quick(draw)(jax.random.key(3))


@pytest.mark.slow
@pytest.mark.parametrize('mode', KEEPING)
def test_lam_one_is_the_identity_bit_for_bit(mode, keeping_draws):
  mix = keeping_draws[mode]
  assert (np.asarray(mix.lam) == 1).all()
  dtypes = ('float32', 'bfloat16', 'float16', 'uint8')
  for dtype in dtypes if mode == 'mixup' else dtypes[:1]:
    images = special_values(IMAGES, dtype)
    out = apply_once(mix, images)
    assert out.dtype == images.dtype
    np.testing.assert_array_equal(
      as_bits(out), as_bits(images), f'{dtype} images are changed at lam=1'
    )


def test_lam_zero_is_the_partner_bit_for_bit():
  partner = jnp.array([2, 0, 1], jnp.int32)
  mix = jaxmix.Mix(
    jnp.zeros(3), partner, mask=jnp.zeros((1, 1, 1), jnp.float32)
  )
  images = special_values((3, 4, 5, 2), 'float32')
  out = apply_once(mix, images)
  np.testing.assert_array_equal(
    as_bits(out), as_bits(images)[np.asarray(partner)]
  )


@pytest.mark.parametrize('bad', [np.nan, np.inf])
@pytest.mark.parametrize(
  'name', ['cutmix-batch', 'resizemix-sample', 'random-images-sample']
)
def test_a_pixel_that_was_not_chosen_never_leaks(name, bad):
  mixes = MASK_DRAWS[name]()
  owner = owners(mixes, IMAGES, 'float32')
  images = numbered(IMAGES, jnp.float32).at[::2].set(bad)
  out = np.asarray(apply_all(mixes, images))[..., 0]
  with np.errstate(invalid='ignore'):
    poisoned = ~np.isfinite(out)
  np.testing.assert_array_equal(
    poisoned,
    owner % 2 == 0,
    'a bad pixel showed where its image was not chosen, or was swallowed',
  )


def test_nothing_leaks_through_a_float_mask():
  # Where Mixup is a candidate all masks are float32: 0 and 1 must still copy.
  rows = jnp.array([[[1.0, 0.0], [0.5, 0.0]], [[0.0, 1.0], [1.0, 0.25]]])
  mix = jaxmix.Mix(
    jnp.zeros(2), jnp.array([1, 0]), jnp.zeros(2, jnp.int32), mask=rows
  )
  images = jnp.stack([jnp.full((2, 2, 1), 3.0), jnp.full((2, 2, 1), jnp.nan)])
  out = np.asarray(apply_once(mix, images))[..., 0]
  want = [[[3, np.nan], [np.nan, np.nan]], [[3, np.nan], [np.nan, np.nan]]]
  np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize('method', ['linear', 'cubic'])
def test_a_bad_pixel_stays_where_it_is_if_others_are_resized(method):
  # Sample 0 gets the right half of its partner, as CutMix would paste it;
  # sample 1 gets its partner shrunk. So the batch goes through the resizer.
  spatial_shape = (6, 8)
  box = jnp.array([[[0, 6], [4, 8]], [[1, 4], [2, 6]]], jnp.int32)
  source = tuple(
    jnp.stack([jnp.arange(n), jnp.clip((jnp.arange(n) - s) * 2, 0, n - 1)])
    for n, s in zip(spatial_shape, (1, 2), strict=True)
  )
  mix = jaxmix.Mix(
    lam=jnp.array([0.5, 0.75]),
    partner=jnp.array([1, 0], jnp.int32),
    mode=jnp.array([0, 1], jnp.int32),
    box=box,
    source=source,
    resized=jnp.array([False, True]),
    method=method,
  )
  images = np.random.default_rng(2).normal(size=(2, *spatial_shape, 1))
  images = images.astype(np.float32)
  images[1, 0, 0] = np.nan  # outside the half that is pasted
  out = np.asarray(apply_once(mix, images))
  np.testing.assert_array_equal(out[0, :, :4], images[0, :, :4])
  np.testing.assert_array_equal(
    out[0, :, 4:],
    images[1, :, 4:],
    f'method={method!r}: pixels that were not resized are not copies: a NaN '
    'of the partner spread over its row and column',
  )


@pytest.mark.parametrize('granularity', GRANULARITIES)
def test_uint8_mixup_rounds_to_nearest(granularity):
  mixes = drawn.modes()['mixup', granularity]
  images = np.random.default_rng(3).integers(0, 256, IMAGES).astype(np.uint8)
  got = np.asarray(apply_all(mixes, images))
  assert got.dtype == np.uint8
  want = np.stack(
    [
      reference.apply_mix(drawn.one_draw(mixes, i), images)
      for i in range(drawn.COUNT)
    ]
  )
  off = np.abs(got.astype(float) - want).max()
  assert off <= 0.5 + 1e-4, (
    f'a grey value is {off} from the exact blend: rounded down, or wrapped'
  )


def test_bfloat16_mixup_is_blended_in_float32():
  mixes = drawn.modes()['mixup', 'sample']
  images = jnp.asarray(
    np.random.default_rng(4).normal(size=IMAGES), jnp.bfloat16
  )
  got = np.asarray(apply_all(mixes, images).astype(jnp.float32))
  lam = np.asarray(mixes.lam, np.float64)[..., None, None, None]
  own = np.asarray(images, np.float64)
  exact = lam * own + (1 - lam) * own[np.asarray(mixes.partner)]
  # Half a unit of bfloat16, and what float32 rounds where the two cancel.
  allowed = 1.01 * 2.0**-8 * np.abs(exact) + 1e-6
  off = np.abs(got - exact) - allowed
  assert off.max() <= 0, 'not the float32 blend, rounded once to bfloat16'


def test_hard_takes_whole_pixels_from_the_heavier_image():
  masks = numbered(IMAGES, jnp.int32)[..., :1]
  mixes = drawn.modes()['mixup', 'sample']
  out = np.asarray(apply_all_hard(mixes, masks))[:, :, 0, 0, 0]
  lam, partner = np.asarray(mixes.lam), np.asarray(mixes.partner)
  want = np.where(lam >= 0.5, np.arange(IMAGES[0]), partner)
  assert out.dtype == np.int32
  np.testing.assert_array_equal(out, want)


@pytest.mark.parametrize('mode', MODES)
def test_gradient_is_own_weight_plus_what_the_partner_lent(mode):
  cotangent = np.random.default_rng(5).normal(size=(1, *IMAGES))
  cotangent = cotangent[0].astype(np.float32)
  mixes = drawn.modes()[mode, 'sample']

  def pull(mix, images):
    return jax.vjp(lambda x: jaxmix.apply(mix, x), images)[1](cotangent)[0]

  pulled = jax.jit(jax.vmap(pull, in_axes=(0, None)))
  got = np.asarray(pulled(mixes, numbered(IMAGES, jnp.float32)))
  for i in range(drawn.COUNT):
    want = reference.apply_adjoint(drawn.one_draw(mixes, i), cotangent)
    np.testing.assert_allclose(got[i], want, rtol=1e-4, atol=1e-4)


def test_a_mix_follows_the_same_pairing_for_a_second_view():
  # Images at another size, labels and images must all meet the same partner.
  mixes = drawn.modes()['mixup', 'batch']
  small = numbered((IMAGES[0], 2, 3, 1), jnp.float32)
  view = np.asarray(apply_all(mixes, small))[..., 0, 0, 0]
  lam, partner = np.asarray(mixes.lam), np.asarray(mixes.partner)
  want = lam * np.arange(IMAGES[0]) + (1 - lam) * partner
  np.testing.assert_allclose(view, want, atol=1e-5)
  classes = dense_labels(mixes, IMAGES[0]) @ np.arange(IMAGES[0])
  np.testing.assert_allclose(classes, want, atol=1e-5)


def test_mask_modes_give_bool_masks_and_mixup_one_weight():
  assert MASK_MODES == ('cutmix', 'resizemix', 'fmix')
  draws = drawn.modes()
  assert draws['fmix', 'batch'].mask.dtype == bool
  assert draws['cutmix', 'batch'].mask is None
  assert draws['resizemix', 'batch'].mask is None
  assert draws['mixup', 'batch'].mask.shape[1:] == (1, 1, 1)
  assert draws['mixup', 'sample'].mask.shape[1:] == (IMAGES[0], 1, 1)
  assert drawn.random_masks('images', 'sample').mask.dtype == bool


@pytest.mark.parametrize(
  'mode, dtype',
  [
    ('mixup', 'uint8'),
    ('mixup', 'bfloat16'),
    ('cutmix', 'float32'),
    ('resizemix', 'uint8'),
    ('fmix', 'bfloat16'),
  ],
)
def test_postprocess_gets_the_mix_before_rounding(mode, dtype):
  mixes = drawn.modes()[mode, 'sample']
  mix = jax.tree.map(lambda x: x[0], mixes)
  images = np.random.default_rng(6).integers(0, 256, IMAGES)
  images = jnp.asarray(images.astype(np.float32), dtype)
  mean, std = jnp.array([3.0, 100.0]), jnp.array([2.0, 0.5])

  def postprocess(x):
    assert x.dtype == jnp.float32
    return ((x - mean) / std).astype(jnp.bfloat16)

  got = jax.jit(lambda m, x: jaxmix.apply(m, x, postprocess=postprocess))(
    mix, images
  )
  # Whole numbers below 256 are exact in all three; so is what mixing them in
  # float32 gives.
  want = postprocess(jaxmix.apply(mix, images.astype(jnp.float32)))
  assert got.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    np.asarray(got, np.float32),
    np.asarray(want, np.float32),
    rtol=2**-7,
    err_msg='not (mixed - mean) / std, rounded once',
  )


def test_postprocess_of_the_identity():
  mix = jaxmix.draw_random_mix(
    jax.random.key(0), IMAGES, candidates=('identity',)
  )
  images = jnp.full(IMAGES, 7, np.uint8)
  got = jaxmix.apply(mix, images, postprocess=lambda x: x / 2)
  np.testing.assert_array_equal(got, np.full(IMAGES, 3.5, np.float32))


def program_of_apply(images, postprocess=None):
  shape = (8, 24, 20, 3)
  mix = jax.eval_shape(
    lambda key: jaxmix.draw_random_mix(key, shape), jax.random.key(0)
  )
  run = jax.jit(lambda m, x: jaxmix.apply(m, x, postprocess=postprocess))
  images = jax.ShapeDtypeStruct(shape, images)
  return run.lower(mix, images).compile().as_text() or ''


@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
def test_one_pass_over_the_pixels(dtype):
  postprocess = (
    (lambda x: (x / 255).astype(jnp.bfloat16)) if dtype == 'uint8' else None
  )
  text = program_of_apply(dtype, postprocess)
  entry = text[text.index('ENTRY') :]
  made = [
    line
    for line in entry.splitlines()
    if re.search(r'= [a-z]+\d*\[8,24,(20,3|60)\]', line)
    and ' parameter(' not in line
  ]
  assert len(made) == 1 and ' fusion(' in made[0], (
    f'arrays as large as the images are written {len(made)} times: {made}'
  )
