"""Eager calls in a loop compile nothing after the first of their kind."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from tests.jaxmix import drawn

BATCH, CLASSES, SHAPE = 4, 3, (4, 8, 8, 3)
IMAGES: Any = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
BYTES = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
LABELS = np.arange(BATCH) % CLASSES
MASKS = np.zeros((4, 8, 8, 1), np.int32)
LAYERS = {0: SHAPE, 1: (4, 8, 8, 5)}
# Keys enough for every mode, number of blocks and layer to be drawn: what is
# drawn later has been compiled.
KEYS = list(jax.random.split(jax.random.key(0), 20))
FIRST = 16


def one_call(name, images=IMAGES, **options):
  def call(key):
    function = getattr(jaxmix, name)
    return function(key, images, LABELS, num_classes=CLASSES, **options)

  return call


def hidden(draw):
  def call(key):
    mix = draw(key)
    layers = [np.zeros(LAYERS[k], np.float32) for k in LAYERS]
    return mix.lam, [
      jaxmix.apply_hidden(mix, k, x) for k, x in enumerate(layers)
    ]

  return call


def applied(images, draw_options, **options):
  def call(key):
    mix = jaxmix.draw_random_mix(key, SHAPE, **draw_options)
    return jaxmix.apply(mix, images, **options)

  return call


def losses(key):
  mix = jaxmix.draw_mixup(key, SHAPE, pairing='derangement')
  logits = np.zeros((BATCH, CLASSES), np.float32)
  return (
    jaxmix.mixed_cross_entropy(logits, LABELS, mix, label_smoothing=0.1),
    jaxmix.mix_labels(mix, LABELS, num_classes=CLASSES, label_smoothing=0.1),
  )


SAMPLE = {'granularity': 'sample'}
CALLS = {
  'random_mix': one_call('random_mix'),
  'random_mix linear': one_call('random_mix', method='linear'),
  'random_mix cubic': one_call('random_mix', BYTES, method='cubic', **SAMPLE),
  'random_mix samples': one_call('random_mix', BYTES, **SAMPLE),
  'random_mix soft': one_call('random_mix', max_soft=0.2, alpha={'mixup': 0.2}),
  'random_mix weights': one_call('random_mix', weights=jnp.ones(4)),
  'random_mix saliency': one_call(
    'random_mix', candidates=('saliency_mix', 'identity')
  ),
  'random_mix axes': one_call('random_mix', spatial_axes=(2,)),
  'hard': applied(MASKS, {'method': 'linear'}, hard=True),
  'postprocess': applied(
    BYTES, {'method': 'linear'}, postprocess=lambda x: x / 255
  ),
  **{mode: one_call(mode) for mode in drawn.MODES},
  **{
    f'{mode} alpha': one_call(mode, BYTES, alpha=0.2, **SAMPLE)
    for mode in ('mixup', 'cutmix', 'fmix')
  },
  'cutmix bounds': one_call('cutmix', min_share=0.1, max_share=0.4),
  'resizemix linear': one_call('resizemix', method='linear'),
  'fmix official': one_call('fmix', spectrum='official'),
  'cutout': one_call('cutout', length=4, fill=(0.1, 0.2, 0.3)),
  'saliency_mix': one_call('saliency_mix'),
  'puzzle_mix': one_call('puzzle_mix', blocks=(2, 4)),
  'puzzle_mix copies': one_call(
    'puzzle_mix', BYTES, blocks=(2,), levels=2, transport_cost=None
  ),
  'co_mixup': one_call('co_mixup', grid=2, sweeps=1),
  'manifold_mixup': hidden(
    lambda key: jaxmix.draw_manifold_mixup(key, BATCH, layers=(0, 1))
  ),
  'patchup': hidden(lambda key: jaxmix.draw_patchup(key, LAYERS, block_size=3)),
  'gradient_saliency': lambda key: jaxmix.gradient_saliency(IMAGES),
  'losses': losses,
  **{
    f'partner {pairing}': lambda key, pairing=pairing: jaxmix.draw_partner(
      key, BATCH, pairing=pairing
    )
    for pairing in ('roll', 'flip')
  },
}
FAST = ('manifold_mixup', 'mixup')


@functools.cache
def compilations():
  """A list that grows by an entry for every compilation."""
  found = []

  def listen(event: str, duration_secs: float, **kwargs: Any) -> None:
    del kwargs
    if 'backend_compile' in event:
      found.append(duration_secs)

  jax.monitoring.register_event_duration_secs_listener(listen)
  return found


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
    for name in CALLS
  ],
)
def test_later_calls_compile_nothing(name):
  found = compilations()
  # The counter counts: a program that no other test has.
  jax.jit(lambda x: x + len(found))(jnp.ones(3))
  assert found, 'compilations are not counted'
  for key in KEYS[:FIRST]:
    jax.block_until_ready(CALLS[name](key))
  before = len(found)
  for key in KEYS[FIRST:]:
    jax.block_until_ready(CALLS[name](key))
  assert len(found) == before, f'{len(found) - before} compilations in 4 calls'
