"""Every recipe of examples/loops is short, listed, runs and learns."""

import importlib.util
import os
import pathlib
import re
import runpy
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxmix

QUOTES = '"""'
ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / 'examples' / 'loops'
FILES = {path.stem: path for path in sorted(FOLDER.glob('[!_]*.py'))}
# Accuracy by chance, and a bound far above it. Measured: 0.88 to 0.92 for
# digits, which mixing makes slow to learn in 300 steps; 0.95 for multi_label;
# 0.80 for segmentation; 1 for sound and video.
DIGITS = 0.1, 0.8
ACCURACY = {
  **dict.fromkeys(FILES, DIGITS),
  'multi_label': (0.6, 0.85),  # of the most frequent answers
  'segmentation': (0.1, 0.5),
  'sound': (1 / 3, 0.8),
  'video': (1 / 3, 0.8),
}
# Recipes that set a mesh for the whole process, or need several devices.
DEVICES = 'explicit_mesh', 'shard_map'
PACKAGES = {'equinox_model': 'equinox', 'keras3': 'keras'}


@pytest.mark.slow
@pytest.mark.parametrize('name', FILES)
def test_it_learns(name, monkeypatch):
  package = PACKAGES.get(name)
  if package and not importlib.util.find_spec(package):
    pytest.skip(f'needs {package}, of the extra examples')
  monkeypatch.setenv('KERAS_BACKEND', 'jax')  # undoes what keras3 sets
  if name in DEVICES:
    accuracy = accuracy_on_devices(name)
  else:
    results = runpy.run_module(f'examples.loops.{name}')
    CHECKS.get(name, lambda results: None)(results)
    if name == 'second_view':
      return
    accuracy = results['accuracy']
  chance, least = ACCURACY[name]
  assert least > chance + 0.2
  assert accuracy > least


def accuracy_on_devices(name):
  """Returns the accuracy that a recipe prints on four devices."""
  done = subprocess.run(
    [sys.executable, '-m', f'examples.loops.{name}'],
    env=os.environ | {'JAX_NUM_CPU_DEVICES': '4', 'NPROC': '10'},
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  (accuracy,) = re.findall(r'^test accuracy ([\d.]+)$', done.stdout, re.M)
  return float(accuracy)


def check_accumulation(results):
  assert results['state'].opt_state.gradient_step == 600 // 4


def check_share_of_identity(results):
  keys = jax.random.split(jax.random.key(0), 1000)
  options = results['options']
  drawn = jax.jit(
    jax.vmap(lambda key: jaxmix.draw_random_mix(key, (2, 8, 8, 1), **options))
  )(keys)
  # Four standard deviations of the share of 1000 draws.
  assert abs(np.mean(drawn.mode[:, 0] == 0) - 0.5) < 4 * 0.5 / 1000**0.5


def check_keys_advance(results):
  assert results['rngs'].mix.count[...] == 300


# One entry of the cache more than programs: the first step is an int.
def check_two_programs(results):
  assert results['train_step']._cache_size() == 2 + 1


def check_one_program(results):
  assert results['train_step']._cache_size() == 1 + 1


def check_own_candidate(results):
  for granularity, count in ('batch', 1), ('sample', 64):
    mix = results['draw_split'](
      jax.random.key(0),
      (64, 8, 8, 1),
      granularity=granularity,
      partner=np.arange(64)[::-1],
    )
    assert len(np.unique(mix.lam)) == (1 if count == 1 else 9)  # 0 to 8 columns
    images = np.arange(64.0)[:, None, None, None] * np.ones((64, 8, 8, 1))
    own = jaxmix.apply(mix, images) == images
    np.testing.assert_allclose(own.mean((1, 2, 3)), mix.lam)


def check_modes(results):
  assert results['modes'].sum() == 128
  assert len(results['modes']) == 4 and (results['modes'] > 0).all()


def check_loss_falls(results):
  # Views that do not agree at all have the loss log(255) = 5.5.
  assert results['after'] < 0.75 * results['before']


def check_masks(results):
  assert results['masks'].shape == results['images'].shape[:3]
  assert set(np.unique(results['masks'])) == set(range(11))


def check_waves(results):
  assert results['waves'].shape == (1800, 256, 1)


def check_clips(results):
  videos, labels = results['videos'], results['labels']
  assert videos.shape == (1797, 4, 8, 8, 1)
  for i, direction in enumerate(labels[:50] - 1):
    moved = np.roll(videos[i, 0], 3 * direction, 1)
    np.testing.assert_array_equal(videos[i, 3], moved)


def check_backend(results):
  assert results['keras'].backend.backend() == 'jax'


def check_some_labels(results):
  assert np.mean(results['some_labels'] == -1) > 0.7
  assert np.isfinite(results['weights']).all()


def check_teacher(results):
  np.testing.assert_allclose(results['probs'].sum(1), 1, rtol=1e-6)


CHECKS = {
  'distillation': check_teacher,
  'gradient_accumulation': check_accumulation,
  'half_unmixed': check_share_of_identity,
  'ignore_labels': check_some_labels,
  'keras3': check_backend,
  'nnx': check_keys_advance,
  'off_for_the_last_epochs': check_two_programs,
  'own_candidate': check_own_candidate,
  'per_sample': check_modes,
  'second_view': check_loss_falls,
  'segmentation': check_masks,
  'sound': check_waves,
  'video': check_clips,
  'weights_by_schedule': check_one_program,
}


def test_every_check_is_of_a_recipe():
  named = {*CHECKS, *ACCURACY, *DEVICES, *PACKAGES}
  assert named <= set(FILES)


@pytest.mark.parametrize('name', FILES)
def test_it_is_short_and_calls_jaxmix(name):
  source = FILES[name].read_text()
  assert len(source.splitlines()) <= 40
  assert 'jaxmix.' in source.partition('import jaxmix\n')[2]


def test_the_table_lists_every_recipe():
  # The first sentence of each docstring, so that they are written once.
  table = ''.join(
    f'| [{name}.py]({name}.py) | '
    f'{path.read_text().splitlines()[0].removeprefix(QUOTES)} |\n'
    for name, path in FILES.items()
  )
  assert table in (FOLDER / 'README.md').read_text(), f'expected:\n{table}'
