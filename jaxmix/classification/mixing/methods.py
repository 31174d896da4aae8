"""The mixing methods: a table of draw functions, their inputs and options."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxmix


class Method(NamedTuple):
  """A mixing method: its draw function, inputs and options.

  Attributes:
    draw: `draw(key, images, ..., **options)` returns a `jaxmix.Mix` for the
      images of a virtual device, or for Co-Mixup the owners of their blocks.
      With no inputs, `draw(key, shapes, **options)` returns a
      `jaxmix.HiddenMix` for activations of the shapes `(B, H, W, C)`, by layer.
    schema: the properties of `config.mix` beside `name`, which are the options.
    inputs: what the mixing depends on: 'images', 'labels' and
      'saliency', which is that of the gradient and costs a second pass through
      the network. Empty: activations are mixed.
    loss_factor: of a `jaxmix.HiddenMix`: what multiplies the loss of the batch.
  """

  draw: Callable[..., Any]
  schema: Mapping[str, Any]
  inputs: tuple[str, ...] = ()
  loss_factor: Callable[[jaxmix.HiddenMix], jax.Array] | None = None


def _draw_random_mix(key: jax.Array, images: jax.Array, **options: Any) -> Any:
  if 'saliency_mix' in options['candidates']:
    options['saliency'] = jaxmix.spectral_residual(images)
  return jaxmix.draw_random_mix(key, images.shape, **options)


def _draw_saliency_mix(
  key: jax.Array, images: jax.Array, **options: Any
) -> Any:
  saliency = jaxmix.spectral_residual(images)
  return jaxmix.draw_saliency_mix(key, saliency, **options)


def _draw_puzzle_mix(
  key: jax.Array, images: jax.Array, saliency: jax.Array, **options: Any
) -> Any:
  return jaxmix.draw_puzzle_mix(key, saliency, images, **options)


def _draw_co_mixup(
  key: jax.Array,
  images: jax.Array,
  labels: jax.Array,
  saliency: jax.Array,
  **options: Any,
) -> Any:
  del images, labels  # which are mixed by the owners of the blocks
  return jaxmix.draw_co_mixup(key, saliency, **options)


def _draw_manifold_mixup(
  key: jax.Array, shapes: Mapping[int, tuple[int, ...]], **options: Any
) -> Any:
  batch = next(iter(shapes.values()))[0]
  layers = tuple(shapes)
  return jaxmix.draw_manifold_mixup(key, batch, layers=layers, **options)


def _patchup_factor(mix: jaxmix.HiddenMix) -> jax.Array:
  # The paper's loss of a mixed batch is the sum of two cross entropies, which
  # are the same.
  return jnp.where(mix.layer < 0, 1.0, 2.0)


_FRACTION = {'type': 'number', 'minimum': 0, 'maximum': 1}
_WEIGHT = {'type': 'number', 'minimum': 0, 'maximum': 1e6}
_ALPHA = {
  'type': 'number',
  'minimum': 1e-6,
  'maximum': 1e6,
  'description': 'the ratio is drawn from Beta(alpha, alpha)',
}
_COUNT = {'type': 'integer', 'minimum': 1, 'maximum': 2**10}
_SIDE = {'type': 'integer', 'minimum': 2, 'maximum': 2**10}
_PAIRING = {
  'type': 'string',
  'enum': ['permutation', 'roll', 'flip', 'derangement'],
}
_GRANULARITY = {
  'type': 'string',
  'enum': ['batch', 'sample'],
  'description': "'batch': one draw for the whole batch",
}
_LAYERS = {
  'type': 'array',
  'items': {'type': 'integer', 'minimum': 0, 'maximum': 99},
  'minItems': 1,
  'uniqueItems': True,
  'description': 'activations that may be mixed; 0 is the input',
}

METHODS = {
  'random_mix': Method(
    _draw_random_mix,
    inputs=('images',),
    schema={
      'candidates': {
        'type': 'array',
        'items': {'type': 'string', 'enum': list(jaxmix.MODES)},
        'minItems': 1,
        'description': 'the modes that the batch may be mixed by',
      },
      'weights': {
        'type': 'array',
        'items': _WEIGHT,
        'minItems': 1,
        'description': 'one for each candidate, which is drawn in proportion',
      },
      'alpha': {
        'type': ['number', 'object'],
        'minimum': 1e-6,
        'maximum': 1e6,
        'properties': dict.fromkeys(
          ('mixup', 'cutmix', 'fmix', 'saliency_mix'), _ALPHA
        ),
        'required': [],
        'description': 'one for all modes, or one for each',
      },
      'scale': {
        'type': 'array',
        'items': _FRACTION,
        'minItems': 2,
        'maxItems': 2,
        'description': 'ResizeMix: range of the ratio of the sides',
      },
      'method': {
        'type': 'string',
        'enum': ['nearest', 'linear', 'cubic'],
        'description': 'ResizeMix: interpolation',
      },
      'spectrum': {
        'type': 'string',
        'enum': ['isotropic', 'official'],
        'description': 'FMix: spectrum of the random field',
      },
      'decay_power': {
        'type': 'number',
        'minimum': 0,
        'maximum': 100,
        'description': 'FMix: smoothness of the masks',
      },
      'max_soft': {
        'type': 'number',
        'minimum': 0,
        'maximum': 0.5,
        'description': 'FMix: softness of their borders',
      },
      'pairing': _PAIRING,
      'granularity': _GRANULARITY,
    },
  ),
  'saliency_mix': Method(
    _draw_saliency_mix,
    inputs=('images',),
    schema={
      'alpha': _ALPHA,
      'pairing': _PAIRING,
      'granularity': _GRANULARITY,
    },
  ),
  'puzzle_mix': Method(
    _draw_puzzle_mix,
    inputs=('images', 'saliency'),
    schema={
      'alpha': _ALPHA,
      'blocks': {
        'type': 'array',
        'items': _SIDE,
        'minItems': 1,
        'description': 'blocks to a side, drawn for each batch',
      },
      'levels': {'type': 'integer', 'minimum': 2, 'maximum': 3},
      'label_smoothness': _WEIGHT,
      'data_smoothness': _FRACTION,
      'prior': _WEIGHT,
      'transport_cost': _WEIGHT,
      'pairing': _PAIRING,
      'granularity': _GRANULARITY,
    },
  ),
  'co_mixup': Method(
    _draw_co_mixup,
    inputs=('images', 'labels', 'saliency'),
    schema={
      'group': _SIDE | {'description': 'images that are mixed together'},
      'grid': _SIDE | {'description': 'blocks to a side'},
      'concentration': _COUNT,
      'border_cost': _WEIGHT,
      'diversity': _WEIGHT,
      'threshold': _WEIGHT,
      'input_prior': _WEIGHT,
      'sweeps': _COUNT,
    },
  ),
  'manifold_mixup': Method(
    _draw_manifold_mixup,
    schema={'alpha': _ALPHA, 'layers': _LAYERS, 'pairing': _PAIRING},
  ),
  'patchup': Method(
    jaxmix.draw_patchup,
    loss_factor=_patchup_factor,
    schema={
      'hard': {'type': 'boolean'},
      'probability': _FRACTION | {'description': 'of mixing a batch'},
      'gamma': _FRACTION,
      'block_size': _COUNT | {'description': 'side, in pixels'},
      'alpha': _ALPHA,
      'layers': _LAYERS,
      'pairing': _PAIRING,
    },
  ),
}
