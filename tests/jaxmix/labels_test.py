"""Tests of mixed labels and the cross entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

import jaxmix
from tests.jaxmix import drawn

BATCH, CLASSES = 6, 5
rng = np.random.default_rng(0)
LAM = np.array([0, 1, 0.5, 0.25, 0.7, 0.123], np.float32)
PARTNER = np.array([3, 1, 0, 5, 2, 4], np.int32)  # sample 1 is its own
MIX = jaxmix.Mix(
  jnp.asarray(LAM), jnp.asarray(PARTNER), jnp.zeros(BATCH, jnp.int32)
)
LABELS = np.array([0, 4, 2, 2, 1, 3])
DENSE = rng.dirichlet(np.ones(CLASSES), BATCH).astype(np.float32)
LOGITS = (3 * rng.normal(size=(BATCH, CLASSES))).astype(np.float32)


def mixed_targets(targets, smoothing=0.0):
  lam = LAM.astype(float)[:, None]
  targets = np.asarray(targets, float)
  targets = (1 - smoothing) * targets + smoothing / targets.shape[1]
  return lam * targets + (1 - lam) * targets[PARTNER]


def log_softmax(logits):
  logits = np.asarray(logits, float)
  logits = logits - logits.max(1, keepdims=True)
  return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('form', ['integer', 'dense'])
def test_labels_are_the_formula(form, smoothing):
  # Smoothing the mixed targets equals mixing smoothed targets: both are linear.
  labels = LABELS if form == 'integer' else DENSE
  targets = np.eye(CLASSES)[LABELS] if form == 'integer' else DENSE
  got = jaxmix.mix_labels(
    MIX, jnp.asarray(labels), num_classes=CLASSES, label_smoothing=smoothing
  )
  np.testing.assert_allclose(got, mixed_targets(targets, smoothing), atol=1e-6)
  np.testing.assert_allclose(got.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_dense_labels_keep_their_dtype(dtype):
  got = jaxmix.mix_labels(MIX, jnp.asarray(DENSE, dtype))
  assert got.dtype == dtype
  np.testing.assert_allclose(
    got.astype(jnp.float32),
    mixed_targets(jnp.asarray(DENSE, dtype).astype(jnp.float32)),
    atol={'float32': 1e-6, 'bfloat16': 4e-3, 'float16': 5e-4}[dtype],
  )


@pytest.mark.parametrize(
  'dtype, classes',
  [('int8', 100), ('int8', 200), ('uint8', 256), ('int16', 1000)],
)
def test_integer_labels_of_any_width(dtype, classes):
  # The labels fit their dtype; the number of classes need not.
  labels = np.minimum(LABELS * 25, min(classes - 1, 101)).astype(dtype)
  got = jaxmix.mix_labels(MIX, jnp.asarray(labels), num_classes=classes)
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(
    got,
    mixed_targets(np.eye(classes)[labels.astype(int)]),
    atol=1e-6,
    err_msg=f'{dtype} labels with {classes} classes gave other targets '
    f'(sums {np.asarray(got.sum(1))})',
  )


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_sparse_loss_is_the_dense_loss(smoothing):
  want = -(
    mixed_targets(np.eye(CLASSES)[LABELS], smoothing) * log_softmax(LOGITS)
  ).sum(1)
  got = jaxmix.mixed_cross_entropy(
    jnp.asarray(LOGITS), jnp.asarray(LABELS), MIX, label_smoothing=smoothing
  )
  assert got.shape == (BATCH,) and got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('smoothing', [0.1])
def test_gradients_of_both_losses_are_equal(smoothing):
  labels = jnp.asarray(LABELS)

  def sparse(logits):
    loss = jaxmix.mixed_cross_entropy(
      logits, labels, MIX, label_smoothing=smoothing
    )
    return loss.sum()

  def dense(logits):
    targets = jaxmix.mix_labels(
      MIX, labels, num_classes=CLASSES, label_smoothing=smoothing
    )
    return -(targets * jax.nn.log_softmax(logits)).sum()

  got, want = jax.jit(lambda x: (jax.grad(sparse)(x), jax.grad(dense)(x)))(
    LOGITS
  )
  np.testing.assert_allclose(got, want, atol=1e-6)
  targets = mixed_targets(np.eye(CLASSES)[LABELS], smoothing)
  np.testing.assert_allclose(
    got, np.exp(log_softmax(LOGITS)) - targets, atol=1e-6
  )
  check_grads(sparse, (LOGITS,), order=1, modes=['rev'], atol=1e-2, rtol=1e-2)


def test_low_precision_logits_are_judged_in_float32():
  logits = jnp.asarray(LOGITS, jnp.bfloat16)
  got = jaxmix.mixed_cross_entropy(logits, jnp.asarray(LABELS), MIX)
  want = jaxmix.mixed_cross_entropy(
    logits.astype(jnp.float32), jnp.asarray(LABELS), MIX
  )
  assert got.dtype == jnp.float32
  np.testing.assert_array_equal(got, want)


def test_huge_logits_stay_finite():
  got = jaxmix.mixed_cross_entropy(
    jnp.asarray(LOGITS * 1e6), jnp.asarray(LABELS), MIX
  )
  assert np.isfinite(got).all() and (np.asarray(got) >= 0).all()


BAD = [(-1, 'below zero'), (CLASSES, 'one too many'), (10**6, 'far out')]


@pytest.mark.parametrize('bad', [b for b, _ in BAD], ids=[i for _, i in BAD])
def test_labels_out_of_range(bad):
  labels = LABELS.copy()
  labels[3] = bad  # the label of 3, and of 0, whose partner is 3
  touched = np.array([3, 0])
  clean = np.setdiff1d(np.arange(BATCH), touched)
  for call in (
    lambda y: jaxmix.mix_labels(MIX, y, num_classes=CLASSES),
    lambda y: jaxmix.mixed_cross_entropy(jnp.asarray(LOGITS), y, MIX),
  ):
    with pytest.raises(ValueError, match=rf'labels.*\[0, {CLASSES}\).*{bad}'):
      call(jnp.asarray(labels))
    out = np.asarray(jax.jit(call)(jnp.asarray(labels)))
    assert np.isnan(out[touched]).all(), 'a bad label trains silently'
    good = np.asarray(call(jnp.asarray(LABELS)))
    np.testing.assert_allclose(out[clean], good[clean], atol=1e-6)


def test_a_bad_label_under_jit_cannot_train_silently():
  labels = LABELS.copy()
  labels[3] = CLASSES

  def sparse(logits, labels):
    return jaxmix.mixed_cross_entropy(logits, labels, MIX).sum()

  def dense(logits, labels):
    targets = jaxmix.mix_labels(MIX, labels, num_classes=CLASSES)
    return -(targets * jax.nn.log_softmax(logits)).sum()

  for loss in (dense, sparse):
    grad = np.asarray(jax.jit(jax.grad(loss))(LOGITS, jnp.asarray(labels)))
    assert np.isnan(grad[[0, 3]]).all(), (
      f'{loss.__name__}: the loss is NaN but its gradient is {grad[3]}: the '
      'sample is dropped and the run continues'
    )


@pytest.mark.parametrize(('batch', 'drawn'), [(8, 1), (1, 8), (7, 8)])
def test_a_mix_of_another_batch_is_refused(batch, drawn):
  ones = jnp.ones(drawn)
  mix = jaxmix.Mix(ones, jnp.zeros(drawn, int), jnp.zeros(drawn, int))
  labels = jnp.zeros(batch, int)
  with pytest.raises(ValueError, match=f'batch of {drawn}'):
    jaxmix.mixed_cross_entropy(jnp.ones((batch, 3)), labels, mix)


# The labels that do not count are out of range: -1, 255, one too many.
COUNTS = np.array([True, False, True, True, False, True])
HOLES = np.where(COUNTS, LABELS, [0, -1, 0, 0, 255, 0])
# A dense label that does not count may be anything.
DENSE_HOLES = np.where(COUNTS[:, None], DENSE, [np.nan, -3, 0, np.inf, 7])
FORMS = {
  'integer': (HOLES, np.eye(CLASSES)[LABELS]),
  'dense': (DENSE_HOLES.astype(np.float32), DENSE),
  'multi-hot': (
    np.where(COUNTS[:, None], np.int8(DENSE > 0.2), -1),
    DENSE > 0.2,
  ),
}


def counted_targets(targets, counts, smoothing=0.0):
  """Returns `lam v_i t_i + (1 - lam) v_p t_p` and the sums of its weights."""
  lam = LAM.astype(float)[:, None]
  targets = (1 - smoothing) * targets + smoothing / targets.shape[1]
  targets = targets * counts[:, None]
  weight = lam[:, 0] * counts + (1 - lam[:, 0]) * counts[PARTNER]
  return lam * targets + (1 - lam) * targets[PARTNER], weight


def called(way, call):
  """Returns the call with known, traced or batched arguments."""
  if way == 'eager':
    return call
  if way == 'jit':
    return drawn.quick(call)
  batched = drawn.quick(jax.vmap(call))
  return lambda *args: batched(*(jnp.stack([arg, arg]) for arg in args))[1]


WAYS = ['eager', 'jit', 'vmap']
SMOOTHING = 0.1  # the tests above have 0


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('form', FORMS)
def test_labels_that_do_not_count_have_no_weight(form, way):
  labels, targets = FORMS[form]
  want, weight = counted_targets(targets, COUNTS, SMOOTHING)
  got = called(
    way,
    lambda labels, where: jaxmix.mix_labels(
      MIX,
      labels,
      num_classes=CLASSES,
      label_smoothing=SMOOTHING,
      where=where,
    ),
  )(jnp.asarray(labels), jnp.asarray(COUNTS))
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, want, atol=1e-6)
  if form != 'multi-hot':
    np.testing.assert_allclose(got.sum(1), weight, atol=1e-6)


@pytest.mark.parametrize('way', WAYS)
def test_loss_of_labels_that_count(way):
  """The value and the gradient of logits are those of the dense targets."""
  targets, _ = counted_targets(np.eye(CLASSES)[LABELS], COUNTS, SMOOTHING)
  log_probs = log_softmax(LOGITS)

  def loss(logits, labels, where):
    return jaxmix.mixed_cross_entropy(
      logits, labels, MIX, label_smoothing=SMOOTHING, where=where
    )

  def both(*args):
    grad = jax.grad(lambda *args: loss(*args).sum())(*args)
    return jnp.concatenate([loss(*args)[:, None], grad], axis=1)

  got = np.asarray(
    called(way, both)(
      jnp.asarray(LOGITS), jnp.asarray(HOLES), jnp.asarray(COUNTS)
    )
  )
  np.testing.assert_allclose(
    got[:, 0], -(targets * log_probs).sum(1), atol=1e-6
  )
  # d/dx of -sum t log softmax(x) is sum(t) softmax(x) - t.
  want = targets.sum(1, keepdims=True) * np.exp(log_probs) - targets
  np.testing.assert_allclose(got[:, 1:], want, atol=1e-6)


def test_a_sample_without_labels_trains_nothing():
  # The failing input of a user: a loss masked afterwards had NaN gradients.
  labels = jnp.array([0, 1, -1, 2])
  mix = jaxmix.Mix(jnp.full(4, 0.3), jnp.array([0, 2, 1, 3]))
  where = labels != -1

  def mean(logits, where):
    loss = jaxmix.mixed_cross_entropy(logits, labels, mix, where=where)
    weight = mix.lam * where + (1 - mix.lam) * where[mix.partner]
    return loss.sum() / weight.sum()

  # A class that is masked out of the logits, as well.
  logits = jnp.zeros((4, 3)).at[2, 0].set(-jnp.inf)
  value, grad = drawn.quick(jax.value_and_grad(mean))(logits, where)
  assert np.isfinite(value) and np.isfinite(grad).all(), grad
  nothing = jax.grad(
    lambda x: jaxmix.mixed_cross_entropy(
      x, labels, mix, where=jnp.zeros(4, bool)
    ).sum()
  )(logits)
  np.testing.assert_array_equal(nothing, 0)
  # Without it, the same labels are an error, and NaN under jit.
  with pytest.raises(ValueError, match='where'):
    mean(logits, jnp.ones(4, bool))
  assert np.isnan(drawn.quick(mean)(logits, jnp.ones(4, bool)))


def test_a_traced_where_leaves_known_labels_to_the_program():
  got = drawn.quick(
    lambda where: jaxmix.mix_labels(
      MIX, jnp.asarray(HOLES), num_classes=CLASSES, where=where
    )
  )
  assert np.isfinite(got(COUNTS)).all()
  assert np.isnan(np.asarray(got(np.ones(BATCH, bool)))[[1, 4]]).all()


@pytest.mark.parametrize('dtype', ['int32', 'uint8', 'bool'])
def test_multi_hot_labels_become_float32(dtype):
  labels = np.asarray(DENSE > 0.2, dtype)
  got = jaxmix.mix_labels(MIX, jnp.asarray(labels))
  assert got.dtype == jnp.float32
  np.testing.assert_allclose(got, mixed_targets(labels), atol=1e-6)


def test_traced_multi_hot_labels_out_of_range_are_nan():
  labels = np.asarray(DENSE > 0.2, np.int32)
  labels[3, 2] = 2
  for call in (
    lambda y: jaxmix.mix_labels(MIX, y),
    lambda y: jaxmix.mixed_sigmoid_cross_entropy(jnp.asarray(LOGITS), y, MIX),
  ):
    got = np.asarray(drawn.quick(call)(labels)).reshape(BATCH, -1)
    touched = np.isnan(got).any(1)
    assert touched.tolist() == [True, False, False, True, False, False]


def binary_cross_entropy(targets, counts):
  """The mean over the classes by numpy, in float64, with `counts` `[B, K]`."""
  lam = LAM.astype(float)[:, None]
  log_p = -np.logaddexp(0, -LOGITS.astype(float))
  log_not_p = -np.logaddexp(0, LOGITS.astype(float))
  losses = [
    -np.where(v, t * log_p + (1 - t) * log_not_p, 0)
    for t, v in ((targets, counts), (targets[PARTNER], counts[PARTNER]))
  ]
  return (lam * losses[0] + (1 - lam) * losses[1]).mean(1)


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize(
  'form, shape',
  [(form, 'sample') for form in FORMS]
  + [(form, 'class') for form in FORMS if form != 'integer'],
)
def test_binary_cross_entropy(form, shape, way):
  labels, targets = FORMS[form]
  counts = np.broadcast_to(COUNTS[:, None], (BATCH, CLASSES)).copy()
  if shape == 'class':
    counts[2, 1:3] = False
  got = called(
    way,
    lambda *args: jaxmix.mixed_sigmoid_cross_entropy(
      args[0], args[1], MIX, label_smoothing=SMOOTHING, where=args[2]
    ),
  )(
    jnp.asarray(LOGITS),
    jnp.asarray(labels),
    jnp.asarray(COUNTS if shape == 'sample' else counts),
  )
  assert got.shape == (BATCH,) and got.dtype == jnp.float32
  smoothed = (1 - SMOOTHING) * targets + SMOOTHING / 2
  want = binary_cross_entropy(smoothed, counts)
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_binary_cross_entropy_is_that_of_the_mixed_labels():
  labels = jnp.asarray(DENSE > 0.2)
  mixed = jaxmix.mix_labels(MIX, labels)
  want = optax.sigmoid_binary_cross_entropy(jnp.asarray(LOGITS), mixed).mean(1)
  got = jaxmix.mixed_sigmoid_cross_entropy(jnp.asarray(LOGITS), labels, MIX)
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_binary_cross_entropy_of_large_logits():
  """A label that is certain and wrong costs its logit; a right one nothing."""
  labels = jnp.array([[1, 0], [1, 0]])
  mix = jaxmix.Mix(jnp.full(2, 0.3), jnp.array([1, 0]))
  logits = jnp.array([[1e6, -1e6], [-1e6, 1e6]])

  def loss(logits):
    return jaxmix.mixed_sigmoid_cross_entropy(logits, labels, mix)

  np.testing.assert_allclose(loss(logits), [0, 1e6])
  grad = jax.grad(lambda x: loss(x).sum())(logits)
  np.testing.assert_allclose(grad, [[0, 0], [-0.5, 0.5]], atol=1e-6)


SECOND = np.array([1, 1, 0, 4, 3, 2])


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('form', ['integer', 'dense', 'loss', 'sigmoid'])
def test_labels_of_a_second_batch(form, way):
  """As if both batches were one, whose second half holds the partners."""
  both = jaxmix.Mix(
    jnp.concatenate([MIX.lam, jnp.ones(BATCH)]),
    jnp.concatenate([BATCH + MIX.partner, BATCH + MIX.partner]),
  )
  first, second = LABELS, SECOND
  if form in ('dense', 'sigmoid'):
    first, second = DENSE, DENSE[SECOND][::-1]
  logits = jnp.asarray(LOGITS)

  def call(mix, labels, **options):
    if form == 'loss' or form == 'sigmoid':
      loss = {
        'loss': jaxmix.mixed_cross_entropy,
        'sigmoid': jaxmix.mixed_sigmoid_cross_entropy,
      }[form]
      count = len(labels) // BATCH
      return loss(
        jnp.concatenate([logits] * count),
        labels,
        mix,
        label_smoothing=SMOOTHING,
        **options,
      )
    return jaxmix.mix_labels(
      mix, labels, num_classes=CLASSES, label_smoothing=SMOOTHING, **options
    )

  counts = np.concatenate([COUNTS, np.ones(BATCH, bool)])
  want = call(
    both, jnp.concatenate([first, second]), where=jnp.asarray(counts)
  )[:BATCH]
  got = called(
    way,
    lambda labels, others, where: call(
      MIX, labels, partner_labels=others, where=where
    ),
  )(jnp.asarray(first), jnp.asarray(second), jnp.asarray(COUNTS))
  np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
  'call',
  [
    lambda **o: jaxmix.mix_labels(MIX, LABELS, num_classes=CLASSES, **o),
    lambda **o: jaxmix.mixed_cross_entropy(LOGITS, LABELS, MIX, **o),
    lambda **o: jaxmix.mixed_sigmoid_cross_entropy(LOGITS, LABELS, MIX, **o),
  ],
  ids=['mix_labels', 'mixed_cross_entropy', 'mixed_sigmoid_cross_entropy'],
)
@pytest.mark.parametrize(
  'others, error, word',
  [
    (DENSE, ValueError, rf'\[{BATCH}, {CLASSES}\]'),
    (LABELS[1:], ValueError, rf'\[{BATCH - 1}\]'),
    (LABELS * 1.0, TypeError, 'float64'),
    (LABELS + CLASSES, ValueError, rf'\[0, {CLASSES}\)'),
  ],
)
def test_invalid_labels_of_a_second_batch(call, others, error, word):
  with pytest.raises(error, match=f'partner_labels.*{word}'):
    call(partner_labels=others)


@pytest.mark.parametrize(
  'setting',
  [
    lambda: jax.numpy_rank_promotion('raise'),
    lambda: jax.numpy_dtype_promotion('strict'),
  ],
  ids=['rank', 'dtype'],
)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'int8'])
def test_every_option_under_strict_promotion(setting, dtype):
  dense = jnp.asarray(DENSE > 0.2).astype(dtype)
  where, single = jnp.asarray(COUNTS), jnp.asarray(HOLES)
  logits = jnp.asarray(LOGITS)

  def call(where):
    options = {'label_smoothing': 0.1, 'where': where}
    second = {**options, 'partner_labels': dense}
    return [
      jaxmix.mix_labels(MIX, single, num_classes=CLASSES, **options),
      jaxmix.mix_labels(MIX, dense, **second),
      jaxmix.mixed_cross_entropy(logits, single, MIX, **options),
      jaxmix.mixed_sigmoid_cross_entropy(logits, dense, MIX, **second),
      jaxmix.block_labels(
        dense, jnp.zeros((BATCH, 2, 2), jnp.int32), **options
      ),
    ]

  with setting():
    shapes = [result.shape for result in jax.eval_shape(call, where)]
  assert shapes == [(BATCH, CLASSES)] * 2 + [(BATCH,)] * 2 + [(BATCH, CLASSES)]


def test_a_traced_partner_out_of_range_is_nan():
  """Platforms differ in what they read there."""

  @jax.jit
  def run(partner):
    mix = jaxmix.Mix(lam=jnp.full(3, 0.5), partner=partner)
    labels = jnp.array([0, 1, 2])
    logits = jnp.zeros((3, 3))
    return (
      jaxmix.mix_labels(mix, labels, num_classes=3).sum(1),
      jaxmix.mixed_cross_entropy(logits, labels, mix),
      jaxmix.mixed_sigmoid_cross_entropy(logits, labels, mix),
    )

  for result in run(jnp.array([3, 0, -1])):
    np.testing.assert_array_equal(np.isnan(result), [True, False, True])


def test_an_impossible_class_of_weight_zero_costs_nothing():
  mix = jaxmix.Mix(lam=jnp.ones(2), partner=jnp.array([1, 0]))
  logits = jnp.array([[0.0, -jnp.inf], [0.0, 0.0]])
  labels = jnp.array([0, 1])
  loss, slope = jax.value_and_grad(
    lambda x: jaxmix.mixed_cross_entropy(x, labels, mix).sum()
  )(logits)
  np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
  assert np.isfinite(slope).all()


def test_a_wide_label_is_no_other_class():
  with jax.enable_x64(True):
    mix = jaxmix.Mix(lam=jnp.ones(1), partner=jnp.zeros(1, jnp.int32))
    run = jax.jit(lambda y: jaxmix.mix_labels(mix, y, num_classes=5))
    assert np.isnan(run(jnp.array([2**32 + 3]))).all()
