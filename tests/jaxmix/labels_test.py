"""Tests of mixed labels and the cross entropy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import jaxmix

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
