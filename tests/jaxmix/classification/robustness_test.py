"""FGSM, occlusion and corruption errors of a classifier that is known."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmix.classification.evaluators import (
  corruption,
  corruptions,
  fgsm,
  occlusion,
)
from launch.mesh import make_mesh, replicated

SIDE, CLASSES, COUNT = 16, 5, 37


@functools.cache
def examples():
  rng = np.random.default_rng(0)
  return {
    'image': rng.integers(0, 256, (COUNT, SIDE, SIDE, 3)).astype(np.uint8),
    'label': rng.integers(0, CLASSES, COUNT).astype(np.int32),
  }


@functools.cache
def state():
  """A linear classifier that knows its examples, and a normalisation."""
  rng = np.random.default_rng(1)
  images = examples()['image'].reshape(COUNT, -1) / 255 - 0.5
  weights = rng.normal(size=(images.shape[1], CLASSES)) * 0.02
  for image, label in zip(images, examples()['label'], strict=True):
    weights[:, label] += image / 40
  return jnp.asarray(weights, jnp.float32), jnp.float32(0.5)


def predict(params, model_state, images):
  flat = images.reshape(len(images), -1).astype(jnp.float32) / 255
  return (flat - model_state) @ params


def evaluate(module, batch_size=10, devices=1, **options):
  mesh = make_mesh(jax.devices()[:devices])
  function = module.make(
    predict, examples(), batch_size=batch_size, mesh=mesh, **options
  )
  return function(*jax.device_put(state(), replicated(mesh)))()


def top1(images):
  right = np.argmax(predict(*state(), images), axis=1) == examples()['label']
  return pytest.approx(float(right.mean()))


# --- FGSM ---


def test_no_step_is_no_attack():
  assert evaluate(fgsm, epsilon=0.0)['top1'] == top1(examples()['image'])


def test_the_attack_is_the_sign_of_the_gradient_within_the_pixels():
  # Of a linear network the gradient can be written down.
  weights, _ = state()
  images, labels = examples()['image'].astype(float), examples()['label']
  logits = np.asarray(predict(*state(), images))
  shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  slope = (shares - np.eye(CLASSES)[labels]) @ np.asarray(weights).T
  step = 8 * np.sign(slope).reshape(images.shape)
  expected = np.clip(images + step, 0, 255)
  found = np.asarray(
    fgsm.attack(
      lambda x: predict(*state(), x),
      jnp.asarray(examples()['image']),
      jnp.asarray(labels),
      8 / 255,
    )
  )
  # Where the slope is almost 0 its sign may round to the other.
  assert np.mean(abs(found - expected) > 1e-3) < 1e-3
  assert abs(found - images).max() <= 8 + 1e-4
  assert found.min() >= 0 and found.max() <= 255
  assert evaluate(fgsm)['top1'] == top1(found) != top1(images)


def test_an_image_is_attacked_by_itself_alone():
  batches = [evaluate(fgsm, batch_size=size)['top1'] for size in (1, 37, 64)]
  assert len(set(batches)) == 1, f'it depends on the batch: {batches}'


# --- Occlusion ---


@pytest.mark.parametrize(('side', 'black'), [(0, 0), (0.5, 64), (1, 256)])
def test_a_block_is_black(side, black):
  images = jnp.ones((20, SIDE, SIDE, 3))
  found = np.asarray(occlusion.occlude(images, jnp.arange(20), side))
  assert ((found == 0).sum((1, 2)) == black).all()
  rows, columns = (found[..., 0] == 0).any(2), (found[..., 0] == 0).any(1)
  for block in (*rows, *columns):
    assert block.sum() == side * SIDE
    assert abs(np.diff(block.astype(int))).sum() <= 2, 'it has a gap'


def test_blocks_are_anywhere_with_the_same_probability():
  images = jnp.ones((3000, SIDE, SIDE, 1))
  found = np.asarray(occlusion.occlude(images, jnp.arange(3000), 0.5))[..., 0]
  first = np.argmin(found.min(2), axis=1), np.argmin(found.min(1), axis=1)
  counts = np.zeros((9, 9))
  np.add.at(counts, first, 1)
  # Chi squared of 80: 124 is passed once in a thousand.
  expected = 3000 / 81
  assert ((counts - expected) ** 2 / expected).sum() < 124


def test_an_image_has_its_block_in_every_batch():
  images = jnp.ones((9, SIDE, SIDE, 1))
  whole = occlusion.occlude(images, jnp.arange(9), 0.5)
  parts = [occlusion.occlude(images[:1], jnp.array([i]), 0.5) for i in range(9)]
  np.testing.assert_array_equal(whole, jnp.concatenate(parts))


def test_the_occluded_are_those_that_are_predicted():
  expected = top1(
    occlusion.occlude(jnp.asarray(examples()['image']), jnp.arange(COUNT), 0.5)
  )
  assert evaluate(occlusion)['top1'] == expected
  assert evaluate(occlusion, side=0.0)['top1'] == top1(examples()['image'])


# --- Corruptions ---


@pytest.fixture(scope='module')
def corrupted():
  """What the evaluator should see, by name and severity."""
  index = jnp.arange(COUNT)
  return {
    name: [
      np.asarray(program(severity, examples()['image'], index))
      for severity in corruptions.SEVERITIES
    ]
    for name in corruptions.CORRUPTIONS
    for program in [jax.jit(functools.partial(corruptions.corrupt, name))]
  }


def write(folder, corrupted, **others):
  for name, images in corrupted.items():
    np.save(folder / f'{name}.npy', np.concatenate(images))
  np.save(folder / 'labels.npy', np.tile(examples()['label'], 5))
  for name, array in others.items():
    np.save(folder / f'{name}.npy', array)


def test_errors_are_the_means_over_severities(corrupted, tmp_path):
  expected = {
    name: 1 - np.mean([top1(images).expected for images in severities])
    for name, severities in corrupted.items()
  }
  found = evaluate(corruption)
  for name, error in expected.items():
    assert found[name] == pytest.approx(error, abs=1e-6), name
  mean = np.mean(list(expected.values()))
  assert found['mean_error'] == pytest.approx(mean, abs=1e-6)
  del expected['frost']
  rest = np.mean(list(expected.values()))
  assert found['mean_error_but_frost'] == pytest.approx(rest, abs=1e-6)
  # The same from files, as they are published.
  write(tmp_path, corrupted)
  published = evaluate(corruption, source=str(tmp_path))
  assert 'mean_error_but_frost' not in published
  for name, error in published.items():
    assert error == pytest.approx(found[name], abs=1e-6), name


@pytest.mark.parametrize(
  ('others', 'message'),
  [
    ({'labels': np.zeros(5 * COUNT)}, 'other labels than the test split'),
    ({'fog': np.zeros((5, 16, 16, 3))}, r'fog\.npy has the shape \(5, 16'),
    (
      {'snow': np.zeros((5 * COUNT, 16, 16, 3))},
      r'snow\.npy has dtype float64, not uint8',
    ),
  ],
)
def test_published_files_of_something_else_are_refused(
  corrupted, tmp_path, others, message
):
  write(tmp_path, corrupted, **others)
  with pytest.raises(ValueError, match=message):
    evaluate(corruption, source=str(tmp_path))


def test_published_files_that_are_broken_are_named(corrupted, tmp_path):
  write(tmp_path, corrupted)
  path = tmp_path / 'pixelate.npy'
  path.write_bytes(path.read_bytes()[:1000])
  with pytest.raises(ValueError, match=re.escape(f'{path} is broken')):
    evaluate(corruption, source=str(tmp_path))
  path.write_bytes(b'')
  with pytest.raises(ValueError, match=re.escape(f'{path} is broken')):
    evaluate(corruption, source=str(tmp_path))
  path.unlink()
  with pytest.raises(FileNotFoundError, match=r'has no pixelate\.npy'):
    evaluate(corruption, source=str(tmp_path))


def test_images_that_it_cannot_corrupt_are_refused():
  mesh = make_mesh(jax.devices()[:1])
  digits = {'image': np.zeros((3, 8, 8, 1), np.uint8), 'label': np.zeros(3)}
  with pytest.raises(ValueError, match='images of 8x8x1 are not corrupted'):
    corruption.make(predict, digits, batch_size=3, mesh=mesh)


@pytest.mark.parametrize('module', [fgsm, occlusion, corruption])
def test_a_batch_size_is_told_by_its_field(module):
  name = module.__name__.rpartition('.')[2]
  with pytest.raises(ValueError, match=rf'config\.evals\.{name}\.batch_size=0'):
    evaluate(module, batch_size=0)


@pytest.mark.devices
@pytest.mark.parametrize('module', [fgsm, occlusion, corruption])
def test_eight_devices_find_what_one_does(module):
  one, eight = (evaluate(module, 16, devices=count) for count in (1, 8))
  for name, value in one.items():
    assert eight[name] == pytest.approx(value, abs=1e-5), name
