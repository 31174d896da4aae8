"""Evaluators under FGSM, occlusion and corruption, of a linear classifier."""

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


occlude = jax.jit(occlusion.occlude, static_argnums=2)


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
  batches = [evaluate(fgsm, batch_size=size)['top1'] for size in (1, 64)]
  assert len(set(batches)) == 1, f'it depends on the batch: {batches}'


# --- Occlusion ---


@pytest.mark.parametrize(('side', 'black'), [(0, 0), (0.5, 64), (1, 256)])
def test_a_block_is_black(side, black):
  images = jnp.ones((20, SIDE, SIDE, 3))
  found = np.asarray(occlude(images, jnp.arange(20), side))
  assert ((found == 0).sum((1, 2)) == black).all()
  rows, columns = (found[..., 0] == 0).any(2), (found[..., 0] == 0).any(1)
  for block in (*rows, *columns):
    assert block.sum() == side * SIDE
    assert abs(np.diff(block.astype(int))).sum() <= 2, 'it has a gap'


def test_blocks_are_anywhere_with_the_same_probability():
  images = jnp.ones((3000, SIDE, SIDE, 1))
  found = np.asarray(occlude(images, jnp.arange(3000), 0.5))[..., 0]
  first = np.argmin(found.min(2), axis=1), np.argmin(found.min(1), axis=1)
  counts = np.zeros((9, 9))
  np.add.at(counts, first, 1)
  # Chi squared of 80: 124 is passed once in a thousand.
  expected = 3000 / 81
  assert ((counts - expected) ** 2 / expected).sum() < 124


@pytest.mark.slow
def test_an_image_has_its_block_in_every_batch():
  images = jnp.ones((9, SIDE, SIDE, 1))
  whole = occlude(images, jnp.arange(9), 0.5)
  parts = [occlude(images[:1], jnp.array([i]), 0.5) for i in range(9)]
  np.testing.assert_array_equal(whole, jnp.concatenate(parts))


@pytest.mark.slow
def test_occluded_images_are_predicted():
  expected = top1(
    occlude(jnp.asarray(examples()['image']), jnp.arange(COUNT), 0.5)
  )
  assert evaluate(occlusion)['top1'] == expected
  assert evaluate(occlusion, side=0.0)['top1'] == top1(examples()['image'])


# --- Corruptions ---


@functools.cache
def published():
  """Images `[5 N, H, W, 3]` by corruption, as in the published files."""
  rng = np.random.default_rng(2)
  images = np.tile(examples()['image'], (5, 1, 1, 1)).astype(int)
  return {
    name: np.clip(images + rng.integers(-99, 99, images.shape), 0, 255).astype(
      np.uint8
    )
    for name in corruptions.CORRUPTIONS
  }


def write(folder, **others):
  labels = np.tile(examples()['label'], 5)
  for name, array in (published() | {'labels': labels} | others).items():
    np.save(folder / f'{name}.npy', array)


def check_errors(results, images_by_name):
  """Each error is the mean over the severities, and `mean_error` of all."""
  errors = {
    name: 1 - np.mean([top1(part).expected for part in np.split(images, 5)])
    for name, images in images_by_name.items()
  }
  for name, error in errors.items():
    assert results[name] == pytest.approx(error, abs=1e-6), name
  mean = np.mean(list(errors.values()))
  assert results['mean_error'] == pytest.approx(mean, abs=1e-6)
  return errors


def test_errors_of_published_images(tmp_path):
  write(tmp_path)
  results = evaluate(corruption, source=str(tmp_path))
  errors = check_errors(results, published())
  assert len(set(errors.values())) > 1
  assert 'mean_error_but_frost' not in results


@pytest.mark.slow
def test_errors_of_regenerated_images():
  index = jnp.arange(COUNT)
  corrupted = {
    name: np.concatenate(
      [
        program(severity, examples()['image'], index)
        for severity in range(1, 6)
      ]
    )
    for name in corruptions.CORRUPTIONS
    for program in [jax.jit(functools.partial(corruptions.corrupt, name))]
  }
  results = evaluate(corruption)
  errors = check_errors(results, corrupted)
  del errors['frost']
  mean = np.mean(list(errors.values()))
  assert results['mean_error_but_frost'] == pytest.approx(mean, abs=1e-6)


@pytest.mark.parametrize(
  ('others', 'file'),
  [
    ({'labels': np.zeros(5 * COUNT)}, 'labels.npy'),
    ({'fog': np.zeros((5, 16, 16, 3))}, 'fog.npy'),
    ({'snow': np.zeros((5 * COUNT, 16, 16, 3))}, 'snow.npy'),
  ],
)
def test_published_files_of_other_images_are_refused(tmp_path, others, file):
  write(tmp_path, **others)
  with pytest.raises(ValueError, match=f'source=.*{file}'):
    evaluate(corruption, source=str(tmp_path))


def test_published_files_that_are_broken_are_named(tmp_path):
  write(tmp_path)
  path = tmp_path / 'pixelate.npy'
  for content in path.read_bytes()[:1000], b'':
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
      evaluate(corruption, source=str(tmp_path))
  path.unlink()
  with pytest.raises(FileNotFoundError, match=r'pixelate\.npy'):
    evaluate(corruption, source=str(tmp_path))


def test_images_that_it_cannot_corrupt_are_refused():
  mesh = make_mesh(jax.devices()[:1])
  digits = {'image': np.zeros((3, 8, 8, 1), np.uint8), 'label': np.zeros(3)}
  with pytest.raises(ValueError, match='config.evals.corruption .*8x8x1'):
    corruption.make(predict, digits, batch_size=3, mesh=mesh)


@pytest.mark.parametrize('module', [fgsm, occlusion, corruption])
def test_a_batch_size_is_told_by_its_field(module):
  name = module.__name__.rpartition('.')[2]
  with pytest.raises(ValueError, match=rf'config\.evals\.{name}\.batch_size=0'):
    evaluate(module, batch_size=0)


@pytest.mark.devices
@pytest.mark.parametrize(
  'module',
  [fgsm, occlusion, pytest.param(corruption, marks=pytest.mark.slow)],
)
def test_eight_devices_find_what_one_does(module):
  one, eight = (evaluate(module, 16, devices=count) for count in (1, 8))
  for name, value in one.items():
    assert eight[name] == pytest.approx(value, abs=1e-5), name
