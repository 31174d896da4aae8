import math
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxmix.classification.evaluators import clean
from launch.mesh import make_mesh

CLASSES = 12


def as_images(logits):
  """Images whose only row of pixels is the logits."""
  return np.asarray(logits, np.float32)[:, None, :, None]


def predict(params, model_state, images):
  return images[:, 0, :, 0] * params + model_state


def evaluate(logits, labels, batch_size, params=1.0, model_state=0.0):
  examples = {
    'image': as_images(logits),
    'label': np.asarray(labels, np.int32),
  }
  mesh = make_mesh(jax.devices()[:1])
  function = clean.make(predict, examples, batch_size=batch_size, mesh=mesh)
  return function(jnp.float32(params), jnp.float32(model_state))()


def random_examples(count, seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(count, CLASSES)).astype(np.float32)
  labels = rng.integers(0, CLASSES, count)
  logits[np.arange(count), labels] += 1
  return logits, labels


@pytest.mark.parametrize('batch_size', [1, 7, 300])
def test_counts_are_exact_whatever_the_batch(batch_size):
  logits, labels = random_examples(101)
  found = evaluate(logits, labels, batch_size)
  order = np.argsort(-logits, axis=1)
  assert found['top1'] == np.sum(order[:, 0] == labels) / 101
  assert found['top5'] == np.sum(order[:, :5] == labels[:, None]) / 101
  losses = -scipy.special.log_softmax(logits.astype(float), axis=1)
  expected = losses[np.arange(101), labels].mean()
  assert found['loss'] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('wrong', [4, 10])
def test_each_example_is_counted_once(wrong):
  # 11 examples in batches of 5: the last one is mostly padding.
  labels = np.arange(11)
  logits = np.eye(CLASSES)[labels]
  logits[wrong] = 0
  logits[wrong, 11] = 1
  found = evaluate(logits, labels, 5)
  assert found['top1'] == 10 / 11, f'example {wrong} counted otherwise'


def test_the_state_given_is_the_state_evaluated():
  logits, labels = random_examples(20)
  up, down = (evaluate(logits, labels, 8, params=p) for p in (1.0, -1.0))
  assert down['top1'] == np.mean(np.argmin(logits, axis=1) == labels)
  assert up['top1'] != down['top1']


def test_ties_count_as_wrong():
  found = evaluate(np.zeros((10, CLASSES)), np.zeros(10), 4)
  assert (found['top1'], found['top5']) == (0, 0), 'a constant model scored'
  assert found['loss'] == pytest.approx(math.log(CLASSES), rel=1e-6)
  logits = np.zeros((1, CLASSES))
  logits[0, :2] = 1  # two share the first rank
  assert evaluate(logits, [0], 1)['top1'] == 0
  assert evaluate(logits, [0], 1)['top5'] == 1
  logits[0, :6] = 1  # six share the first five
  assert evaluate(logits, [0], 1)['top5'] == 0


def test_the_smallest_lead_is_no_tie():
  logits = np.zeros((1, CLASSES), np.float32)
  logits[0, 3] = np.nextafter(np.float32(0), np.float32(1)) * 2**30
  assert evaluate(logits, [3], 1)['top1'] == 1


@pytest.mark.parametrize('column', [0, 1])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_logits_that_are_no_numbers_count_as_wrong(value, column):
  """Of the label itself (0) or of another class (1)."""
  logits = np.zeros((2, CLASSES))
  logits[:, 0] = 5
  logits[1, column] = value
  found = evaluate(logits, [0, 0], 2)
  assert (found['top1'], found['top5']) == (0.5, 0.5)
  assert not math.isfinite(found['loss']), 'a diverged model has a loss'


@pytest.mark.parametrize('count', [1, 10, 360, 10_000])
@pytest.mark.parametrize('share', [0.0, 0.3, 1.0])
def test_interval_is_wilsons(count, share):
  right = round(share * count)
  test = scipy.stats.binomtest(right, count)
  expected = test.proportion_ci(0.95, method='wilson')
  found = clean.wilson_interval(right / count, count)
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_interval_is_that_of_top1():
  logits, labels = random_examples(50)
  found = evaluate(logits, labels, 10)
  assert 0 < found['top1'] < 1
  assert (found['top1_low'], found['top1_high']) == clean.wilson_interval(
    found['top1'], 50
  )


@pytest.mark.parametrize('batch_size', [0, -1])
def test_a_batch_of_nothing(batch_size):
  with pytest.raises(ValueError, match=r'config\.evals\.clean\.batch_size'):
    evaluate(*random_examples(3), batch_size)


def test_a_batch_has_no_more_examples_than_the_split_needs():
  one = make_mesh(jax.devices()[:1])
  eight: Any = types.SimpleNamespace(size=8)
  for batch_size, mesh, expected in (
    (200_000, one, 101),
    (64, one, 64),
    (200_000, eight, 104),
    (96, eight, 96),
  ):
    assert clean.bounded_batch_size(batch_size, 101, mesh) == expected


@pytest.mark.devices
def test_many_devices_count_the_same():
  logits, labels = random_examples(101)
  examples = {'image': as_images(logits), 'label': labels.astype(np.int32)}
  mesh = make_mesh()
  with pytest.raises(ValueError, match='batch_size=12 '):
    clean.make(predict, examples, batch_size=12, mesh=mesh)
  shared = clean.make(predict, examples, batch_size=16, mesh=mesh)
  found = shared(jnp.float32(1), jnp.float32(0))()
  alone = evaluate(logits, labels, 16)
  assert found == pytest.approx(alone, rel=1e-6)
  assert (found['top1'], found['top5']) == (alone['top1'], alone['top5'])
