"""Losses compared with float64 numpy, finite differences, edge cases."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxretrieval import losses

# Loss and options; how many arrays each takes.
CASES = {
  'm3l': (losses.m3l, {}),
  'm3l-log': (losses.m3l, {'objective': 'log'}),
  'm3l-rho2.5': (losses.m3l, {'rho': 2.5, 'alpha1': 2.0, 'alpha2': 0.25}),
  'm3l-image-only': (losses.m3l, {'alpha2': 0.0, 'rho': 1}),
  'm3l-log-text-only': (losses.m3l, {'alpha1': 0.0, 'objective': 'log'}),
  'm3l-eps': (losses.m3l, {'eps': 0.1}),
  'patr-inside': (losses.patr, {'eta': 3.0}),
  'patr-outside': (losses.patr, {'eta': 0.01}),
  'triplet': (losses.triplet, {'margin': 0.7}),
  'info_nce': (losses.info_nce, {'temperature': 0.1}),
  'info_nce-warm': (losses.info_nce, {'temperature': 2.0}),
}
MINED = [name for name in CASES if 'nce' not in name]
COUNT = {losses.m3l: 4, losses.patr: 3, losses.triplet: 3, losses.info_nce: 2}


def loss_of(name):
  function, options = CASES[name]
  return functools.partial(function, **options), COUNT[function]


# Compiles in half the time, without LLVM's optimiser.
jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


@jit
def everything(arrays):
  """Each loss and its gradients, by name: one program, soon compiled."""
  results = {}
  for name in CASES:
    loss, count = loss_of(name)
    slopes = jax.value_and_grad(loss, tuple(range(count)))
    results[name] = slopes(*arrays[:count])
  return results


@jit
def everything_where(where, arrays):
  """The same of the rows that count, for the losses of mined negatives."""
  results = {}
  for name in MINED:
    loss, count = loss_of(name)
    loss = functools.partial(loss, where=where)
    slopes = jax.value_and_grad(loss, tuple(range(count)))
    results[name] = slopes(*arrays[:count])
  return results


def features(rows, dim, seed=0, scale=1.0):
  """Four sets of rectified features of a squared norm of about `scale**2`.

  Texts have something of their images: where the two are as far apart as any,
  logarithms and hinges are near 0, and no relative error is small there.
  """
  rng = np.random.default_rng(seed)
  noise = np.maximum(rng.normal(size=(4, rows, dim)), 0) + 0.01
  text, image, neg_image, neg_text = noise * scale / np.sqrt(dim / 2)
  text, neg_text = 0.6 * text + 0.4 * image, 0.6 * neg_text + 0.4 * neg_image
  rows = text, image, neg_image, neg_text
  return [x.astype(np.float32) for x in rows]


# The reference: float64, one row after the other.


def distance(x, y):
  return np.sum((np.asarray(x, np.float64) - np.asarray(y, np.float64)) ** 2)


def expected(name, arrays, where=None, same=None):
  function, options = CASES[name]
  arrays = [np.asarray(x, np.float64) for x in arrays[: COUNT[function]]]
  if function is losses.info_nce:
    text, image = arrays
    return expected_info_nce(text, image, same, **options)
  count = len(arrays[0])
  counted = [i for i in range(count) if where is None or where[i]]
  unit = np.mean([distance(arrays[1][i], 0 * arrays[1][i]) for i in counted])
  rows = []
  for i in counted:
    d = [distance(arrays[0][i], other[i]) for other in arrays[1:]]
    if function is losses.m3l:
      rows.append(expected_m3l(d, unit, **options))
    elif function is losses.patr:
      rows.append(d[0] + max(0.0, options['eta'] - d[1]))
    else:
      rows.append(max(0.0, options['margin'] + d[0] - d[1]))
  return np.mean(rows)


def expected_m3l(d, unit, rho=4, alpha1=0.5, alpha2=1.0, eps=1e-6, **options):
  positive, to_image, to_text = (x + eps * unit for x in d)
  row = alpha1 * (positive / to_image) ** rho
  row += alpha2 * (positive / to_text) ** rho
  return np.log(row) if options.get('objective') == 'log' else row


def expected_info_nce(text, image, same, temperature):
  logits = -np.sum((text[:, None] - image[None]) ** 2, axis=-1) / temperature
  own = np.diag(logits).copy()
  if same is not None:
    logits[same & ~np.eye(len(text), dtype=bool)] = -np.inf
  to_images = np.log(np.sum(np.exp(logits - own[:, None]), axis=1))
  to_texts = np.log(np.sum(np.exp(logits - own[None, :]), axis=0))
  return np.mean(to_images + to_texts) / 2


def check_close(got, want, tolerance, message):
  got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
  error = np.max(np.abs(got - want)) / max(np.max(np.abs(want)), 1e-30)
  assert error <= tolerance, f'{message}: off by {error:.2g}: {got}, {want}'


@functools.cache
def outcome(rows, dim, dtype, scale=1.0):
  """Features in a dtype, and `everything` of them."""
  arrays = [x.astype(dtype) for x in features(rows, dim, dim, scale)]
  return arrays, everything(arrays)


@pytest.mark.parametrize('name', CASES)
def test_a_loss_equals_float64_numpy(name):
  arrays, got = outcome(9, 16, np.float32)
  value, _ = got[name]
  assert value.dtype == jnp.float32 and value.shape == ()
  want = expected(name, arrays)
  assert want > 0 or 'log' in name
  check_close(value, want, 1e-6, f'{name}, float32')
  with jax.enable_x64(True):
    arrays, got = outcome(9, 16, np.float64)
  value, _ = got[name]
  assert value.dtype == jnp.float64
  check_close(value, expected(name, arrays), 1e-12, f'{name}, float64')


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize(
  'dtype', [jnp.float16, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)]
)
def test_narrow_features_are_compared_in_float32(name, dtype):
  # Of raw features the fourth power of a distance overflows a float16. (There
  # a hinge is near 0 and a softmax is all or nothing.)
  scale = 29.0 if 'm3l' in name or 'patr' in name else 1.0
  arrays, got = outcome(24, 640, dtype, scale)
  value, slopes = got[name]
  assert value.dtype == jnp.float32
  check_close(value, expected(name, arrays), 1e-6, f'{name} rounds to {dtype}')
  for slope in slopes:
    assert slope.dtype == dtype
    assert np.isfinite(np.asarray(slope, np.float32)).all(), name


def test_features_of_two_dtypes():
  text, image = features(5, 8)[:2]
  got = losses.squared_distance(jnp.asarray(text), image.astype(np.float16))
  assert got.dtype == jnp.float32
  image = image.astype(np.float16)
  want = [distance(*pair) for pair in zip(text, image, strict=True)]
  np.testing.assert_allclose(got, want, rtol=1e-6)


# What has no gradient in which argument.
FLAT = {('m3l-image-only', 3), ('m3l-log-text-only', 2), ('patr-outside', 2)}


@functools.cache
def differences():
  """Each loss's gradients, and differences by each number of its features."""
  arrays = np.array(features(4, 3, seed=2), np.float64)
  h = 1e-6
  shifts = h * np.eye(48).reshape(48, 4, 4, 3)

  def compare(arrays, up, down):
    results = {}
    for name in CASES:
      loss, count = loss_of(name)
      if 'm3l' in name:
        # The unit of eps is held constant, which a difference would see.
        loss = functools.partial(loss, eps=1e-13)

      def at(x, loss=loss, count=count):
        return loss(*x[:count])

      wanted = (jax.vmap(at)(up) - jax.vmap(at)(down)) / (2 * h)
      results[name] = jax.grad(at)(arrays), wanted.reshape(4, 4, 3)
    return results

  with jax.enable_x64(True):
    got = jit(compare)(arrays, arrays + shifts, arrays - shifts)
  return jax.tree.map(np.asarray, got)


@pytest.mark.parametrize('name', CASES)
def test_gradients_equal_finite_differences(name):
  slopes, wanted = differences()[name]
  assert slopes.dtype == np.float64
  for i, (slope, want) in enumerate(zip(slopes, wanted, strict=True)):
    size = np.abs(want).max()
    flat = i >= COUNT[CASES[name][0]] or (name, i) in FLAT
    assert flat == (size == 0), f'argument {i} has slopes up to {size}'
    np.testing.assert_allclose(slope, want, rtol=1e-6, atol=1e-8 * size + 1e-12)


@pytest.mark.parametrize('objective', ['ratio', 'log'])
@pytest.mark.parametrize('factor', [2.0**-12, 1 / 29.0, 1e4])
def test_m3l_does_not_see_a_common_scale(objective, factor):
  name = 'm3l' if objective == 'ratio' else 'm3l-log'
  arrays = features(9, 16, seed=3)
  value, slopes = everything(arrays)[name]
  scaled, other = everything([np.float32(factor) * x for x in arrays])[name]
  check_close(scaled, value, 2e-6, 'M3L changes with the scale')
  for slope, slope_scaled in zip(slopes, other, strict=True):
    check_close(factor * slope_scaled, slope, 1e-5, 'the gradient is not 1/c')
  # Euler: a function of degree 0 has no slope along its argument.
  along = sum(np.sum(x * s) for x, s in zip(arrays, slopes, strict=True))
  assert abs(along) < 1e-4


def test_m3l_depends_on_the_scale_of_one_side():
  text, image, neg_image, neg_text = features(9, 16, seed=3)
  small = [text / 29, image, neg_image, neg_text / 29]
  a, _ = everything([text, image, neg_image, neg_text])['m3l']
  b, _ = everything(small)['m3l']
  assert b > 100 * a, 'small texts beside raw images: the literal recipe'


@pytest.mark.parametrize(
  ('function', 'radius', 'value'),
  [(losses.patr, 'eta', 1100.0), (losses.triplet, 'margin', 150.0)],
)
def test_a_radius_scales_with_the_square(function, radius, value):
  # 1100 is 1.3 of the mean squared norm of raw ResNet features.
  arrays = features(24, 64, seed=4, scale=29.0)[:3]
  want = function(*arrays, **{radius: value})
  for c in (1 / 29, 2.0, 100.0):
    got = function(
      *(np.float32(c) * x for x in arrays), **{radius: value * c**2}
    )
    check_close(got, c**2 * want, 2e-6, f'{function.__name__} at scale {c}')
  if function is losses.patr:
    assert losses.patr(*arrays) == want, 'eta is 1100 in the paper'


def test_info_nce_scales_with_the_temperature():
  text, image = features(24, 64, seed=5)[:2]

  @jit
  def losses_of(text, image):
    want = losses.info_nce(text, image, temperature=0.1)
    temperature = 0.1 * 29**2
    got = losses.info_nce(29 * text, 29 * image, temperature=temperature)
    return want, got

  want, got = losses_of(text, image)
  check_close(got, want, 2e-6, 'InfoNCE at another scale')


def test_the_log_objective_is_the_log_of_the_ratio():
  arrays = features(24, 16, seed=6)

  @jit
  def losses_of(*arrays):
    ratio = losses.m3l(*arrays, eps=1e-9)
    return ratio, losses.m3l(*arrays, eps=1e-9, objective='log')

  rows = [losses_of(*(x[i : i + 1] for x in arrays)) for i in range(24)]
  ratios, logs = np.array(rows).T
  np.testing.assert_allclose(np.exp(logs), ratios, rtol=2e-6)
  ratio, log = losses_of(*arrays)
  check_close(ratio, np.mean(ratios), 1e-6, 'ratio is the mean of ratios')
  check_close(log, np.mean(np.log(ratios)), 1e-6, 'log is the mean of logs')


# Degenerate batches.


def zeros(x):
  return 0 * x


DEGENERATE = {
  'the text is its image': lambda t, i, ni, nt: (i, i, ni, nt),
  'the text is the negative image': lambda t, i, ni, nt: (ni, i, ni, nt),
  'the captions are identical': lambda t, i, ni, nt: (t, i, ni, t),
  'both images are identical': lambda t, i, ni, nt: (t, i, i, nt),
  'both pairs are identical': lambda t, i, ni, nt: (t, i, i, t),
  'everything is one point': lambda t, i, ni, nt: (t, t, t, t),
  'one row is everywhere': lambda *x: tuple(a[:1].repeat(9, 0) for a in x),
  'all texts are 0 (dead ReLU)': lambda t, i, ni, nt: (
    zeros(t),
    i,
    ni,
    zeros(nt),
  ),
  'everything is 0': lambda *x: tuple(zeros(a) for a in x),
}


@pytest.mark.parametrize('name', CASES)
def test_degenerate_batches_stay_finite(name):
  for scale in (1.0, 29.0):
    for what, change in DEGENERATE.items():
      arrays = change(*features(9, 16, seed=7, scale=scale))
      value, slopes = everything(list(arrays))[name]
      assert np.isfinite(value), f'{name} is {value} where {what}'
      for slope in slopes:
        assert np.isfinite(slope).all(), f'{name}: {slope} where {what}'


def test_values_of_degenerate_batches():
  text, image, neg_image, neg_text = features(9, 16, seed=7)
  got = everything([text] * 4)
  check_close(got['m3l'][0], 1.5, 1e-6, 'all ratios are 1')
  check_close(got['patr-inside'][0], 3, 1e-6, 'eta is left')
  check_close(got['triplet'][0], 0.7, 1e-6, 'the margin is left')
  got = everything([zeros(text)] * 4)
  check_close(got['m3l'][0], 1.5, 1e-6, 'all ratios are 1')
  check_close(got['info_nce'][0], np.log(9), 1e-6, 'nothing to tell by')
  got = everything([text, text, neg_image, neg_text])
  assert got['m3l'][0] < 1e-15


@pytest.mark.parametrize('name', MINED)
@pytest.mark.parametrize('value', [np.nan, np.inf, 3e38, 1e12, 0.0])
def test_rows_left_out_change_nothing(name, value):
  arrays = features(9, 16, seed=8)
  where = np.array([1, 1, 0, 1, 0, 0, 1, 1, 0], bool)
  want, slopes_wanted = everything_where(where, arrays)[name]
  check_close(want, expected(name, arrays, where), 1e-6, name)
  for array in arrays:
    array[~where] = value
  got, slopes = everything_where(where, arrays)[name]
  assert got == want, f'{name}: rows of {value} still count'
  for slope, wanted in zip(slopes, slopes_wanted, strict=True):
    assert (slope[~where] == 0).all(), f'{name}: a row of {value} has a slope'
    assert (slope == wanted).all()


@pytest.mark.parametrize('name', MINED)
def test_an_overflow_left_out_does_not_reach_the_gradient(name):
  # Finite features, an infinite loss: the rows that `mine` finds nothing for.
  arrays = features(9, 16, seed=8)
  arrays[0][2] = arrays[3][2] = 1e18
  value, slopes = everything_where(np.arange(9) != 2, arrays)[name]
  assert np.isfinite(value)
  assert all(np.isfinite(slope).all() for slope in slopes), name


@pytest.mark.parametrize('name', MINED)
def test_no_row_counts(name):
  arrays = features(9, 16, seed=8)
  arrays[0][3] = np.nan
  value, slopes = everything_where(np.zeros(9, bool), arrays)[name]
  assert value == 0
  assert all((slope == 0).all() for slope in slopes), name


@pytest.mark.parametrize('name', CASES)
def test_what_counts_and_is_not_finite_shows(name):
  arrays = features(9, 16, seed=8)
  arrays[0][3] = np.nan
  value, _ = everything(arrays)[name]
  assert np.isnan(value), f'{name} hides a NaN'
  value, _ = everything_where(np.ones(9, bool), arrays).get(name, (np.nan, 0))
  assert np.isnan(value), f'{name} hides a NaN'


# Who is pulled where.


def test_m3l_moves_the_negative_text():
  arrays = features(9, 16, seed=9)
  _, (text, _, _, neg_text) = everything(arrays)['m3l']
  away = np.sum((arrays[3] - arrays[0]) * np.asarray(neg_text), axis=1)
  assert (away < 0).all(), 'descent brings the negative text nearer'
  assert np.abs(text).max() > 0


def test_patr_pulls_where_triplet_has_stopped():
  text, image, neg_image, neg_text = features(9, 16, seed=9)
  got = everything([text, image, neg_image + 100, neg_text])
  pull, _, push = got['patr-inside'][1]
  np.testing.assert_allclose(pull, 2 * (text - image) / 9, rtol=1e-5)
  assert (push == 0).all()
  assert all((slope == 0).all() for slope in got['triplet'][1])


# InfoNCE's pairs.


@jit
def nce(text, image, same):
  loss = functools.partial(losses.info_nce, temperature=0.1)
  return jax.value_and_grad(loss, (0, 1))(text, image, same=same)


def test_pairs_of_one_image_are_left_out_of_info_nce():
  text, image = features(9, 16, seed=10)[:2]
  ids = np.arange(9) // 2
  same = ids[:, None] == ids[None, :]
  got, _ = nce(text, image, same)
  want = expected('info_nce', [text, image], same=same)
  check_close(got, want, 1e-6, 'same')
  plain, _ = nce(text, image, np.zeros((9, 9), bool))
  want = expected('info_nce', [text, image])
  check_close(plain, want, 1e-6, 'nothing is the same')
  assert plain > got, 'pairs left out still push'
  off, _ = nce(text, image, same & ~np.eye(9, dtype=bool))
  assert off == got, 'the diagonal is its own pair in either case'
  # One direction alone may be left out, and then the other is not.
  lopsided = np.triu(same, 1)
  got, _ = nce(text, image, lopsided)
  want = expected('info_nce', [text, image], same=lopsided)
  check_close(got, want, 1e-6, 'same is not symmetric')
  swapped, _ = nce(image, text, lopsided.T)
  check_close(swapped, got, 1e-6, 'InfoNCE is symmetric')


def test_info_nce_with_every_other_pair_left_out():
  text, image = features(9, 16, seed=11)[:2]
  value, slopes = nce(text, image, np.ones((9, 9), bool))
  assert value == 0
  assert all((slope == 0).all() for slope in slopes)


# What is refused.


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'objective': 'exp'}, "objective='exp'"),
    ({'rho': 0}, 'rho=0'),
    ({'rho': np.nan}, 'rho=nan'),
    ({'alpha1': -1}, 'alpha1=-1'),
    ({'alpha1': 0, 'alpha2': 0}, 'alpha1=0 and alpha2=0'),
    ({'eps': 0}, 'eps=0'),
    ({'alpha2': np.nan}, 'alpha2=nan'),
    ({'eps': np.inf}, 'eps=inf'),
    ({'where': np.ones((6, 1), bool)}, r'where has shape \(6, 1\)'),
  ],
)
def test_options_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    losses.m3l(*features(6, 4), **options)


@pytest.mark.parametrize('value', [0, -1.0, np.nan, np.float32(np.inf)])
@pytest.mark.parametrize('name', ['eta', 'margin', 'temperature'])
def test_lengths_out_of_range(name, value):
  loss, count = {
    'eta': (losses.patr, 3),
    'margin': (losses.triplet, 3),
    'temperature': (losses.info_nce, 2),
  }[name]
  with pytest.raises(ValueError, match=f'^{name}={value}'):
    loss(*features(6, 4)[:count], **{name: value})
  with pytest.raises(TypeError, match=f"^{name}='1'"):
    loss(*features(6, 4)[:count], **{name: '1'})


@pytest.mark.parametrize('objective', ['ratio', 'log'])
def test_options_may_be_arrays(objective):
  options = {'rho': 2.0, 'alpha1': 0.5, 'alpha2': 2.0, 'eps': 1e-3}
  m3l = functools.partial(losses.m3l, *features(6, 4), objective=objective)
  traced = jax.jit(lambda options: m3l(**options))(options)
  check_close(traced, m3l(**options), 1e-6, 'a traced option is a number')


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('part', [np.s_[:, :1], np.s_[:1], np.s_[0]])
def test_shapes_that_would_broadcast_are_refused(name, part):
  loss, count = loss_of(name)
  arrays = features(6, 4)[:count]
  for i in range(count):
    bad = [x[part] if i == j else x for j, x in enumerate(arrays)]
    with pytest.raises(ValueError, match='features'):
      loss(*bad)
