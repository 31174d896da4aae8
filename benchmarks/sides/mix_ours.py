"""Our sides of `benchmarks.mix_ops`: the modes of jaxmix."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxmix
from benchmarks.sides.workload import MEAN, STD
from jaxmix.classification import augment

MODES = ('mixup', 'cutmix', 'resizemix', 'fmix', 'random_mix')
CLASSES = 100

CallsAndFacts = tuple[dict[str, Callable[[], Any]], dict[str, Any]]


def make(*, shape: list[int], repeats: int) -> CallsAndFacts:
  """Makes a side with every mode, per batch and per sample, and a copy.

  Args:
    shape: shape of the images, float32 `[B, H, W, C]`.
    repeats: batches per call.
  """
  images = jax.random.uniform(jax.random.key(0), shape)
  pixels = jax.random.randint(jax.random.key(1), shape, 0, 256).astype('uint8')
  labels = jnp.arange(shape[0]) % CLASSES
  functions: dict[str, Any] = {'copy': lambda key, x, labels: jnp.copy(x)}
  for mode in MODES:
    mixed = functools.partial(getattr(jaxmix, mode), num_classes=CLASSES)
    functions[mode] = mixed
    functions[f'{mode} per sample'] = functools.partial(
      mixed, granularity='sample'
    )
  calls = {
    name: _repeat(function, images, labels, repeats)
    for name, function in functions.items()
  }
  for name, function in (
    ('random_mix, bytes to bfloat16', _from_bytes),
    ('random_mix, bytes to bfloat16, normalised first', _normalised_first),
  ):
    calls[name] = _repeat(function, pixels, labels, repeats)
  return calls, {'jax': jax.__version__}


def make_masks(*, size: int, repeats: int) -> CallsAndFacts:
  """Makes a side that draws one FMix mask."""
  shape = (1, size, size, 3)

  def draw(key, images, labels):
    del images, labels
    return jaxmix.draw_fmix(key, shape).mask

  return {'mask': _repeat(draw, jnp.zeros(()), jnp.zeros(()), repeats)}, {}


def _from_bytes(key: jax.Array, images: jax.Array, labels: jax.Array) -> Any:
  """Mixes uint8 images and returns normalised bfloat16, in one pass."""
  mix = jaxmix.draw_random_mix(key, images.shape)
  mixed = jaxmix.apply(
    mix,
    images,
    postprocess=lambda x: augment.normalise(x, MEAN, STD).astype(jnp.bfloat16),
  )
  return mixed, jaxmix.mix_labels(mix, labels, num_classes=CLASSES)


def _normalised_first(
  key: jax.Array, images: jax.Array, labels: jax.Array
) -> Any:
  """Normalises first, then mixes bfloat16."""
  x = augment.normalise(images, MEAN, STD).astype(jnp.bfloat16)
  return jaxmix.random_mix(key, x, labels, num_classes=CLASSES)


def _repeat(
  function: Callable[..., Any], images: Any, labels: Any, repeats: int
) -> Callable[[], Any]:
  """Returns a call that mixes `repeats` batches, each with its own key."""
  compiled = jax.jit(function)
  keys = itertools.cycle(jax.random.split(jax.random.key(2), 1000))

  def call():
    for _ in range(repeats):
      done = compiled(next(keys), images, labels)
      if images.device.platform == 'cpu':
        # Two queued programs would run at the same time.
        jax.block_until_ready(done)
    jax.block_until_ready(done)

  return call
