"""Mixing of a training batch by the method that `config.mix.name` names."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

import jaxmix
from jaxmix.classification.losses import PairTargets, Targets
from jaxmix.classification.mixing.context import (
  MixContext,
  Mixed,
  Mixing,
  Network,
  check_draw,
)
from jaxmix.classification.mixing.methods import METHODS, Method

__all__ = ['METHODS', 'Method', 'MixContext', 'Mixed', 'Mixing', 'make']


def make(mix_config: Any, context: MixContext) -> Mixing:
  """Makes the mixing that `config.mix` describes.

  Raises:
    ValueError: an option does not fit the images or the network, or a virtual
      device has too few examples. The message begins with the field.
  """
  options = mix_config.to_dict()
  if context.virtual_batch_size < 2 and set(options.get('candidates', ())) != {
    'identity'
  }:
    count = context.virtual_devices
    raise ValueError(
      f'config.batch_size={context.virtual_batch_size * count} leaves one '
      f'example for each of config.virtual_devices={count}, and nothing to mix '
      f'it with; it must be at least {2 * count}'
    )
  method = METHODS[options.pop('name')]
  make_mixing = _mix_images if method.inputs else _mix_activations
  return make_mixing(method, options, context)


def _mix_images(
  method: Method, options: dict[str, Any], context: MixContext
) -> Mixing:
  """Makes the mixing of images within each virtual device.

  With granularity 'batch' all of them use the same key, so that one mode and
  one ratio hold for the whole batch.
  """

  def mix_part(
    key: jax.Array, images: jax.Array, *others: jax.Array
  ) -> tuple[jax.Array, Targets]:
    drawn = method.draw(key, images, *others, **options)
    if isinstance(drawn, jaxmix.Mix):
      # uint8 pixels in, network input out: images are read and written once.
      mixed = jaxmix.apply(drawn, images, postprocess=context.postprocess)
      return mixed, PairTargets(drawn.lam, drawn.partner)
    mixed = jaxmix.take_blocks(images, drawn)
    targets = jaxmix.block_labels(
      others[0], drawn, num_classes=context.num_classes
    )
    return context.postprocess(mixed.astype(jnp.float32)), targets

  mix_all = context.map_with_keys(
    mix_part,
    *method.inputs,
    different_keys=options.get('granularity', 'sample') == 'sample',
  )

  def mix(
    key: jax.Array,
    indices: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    network: Network,
  ) -> Mixed:
    arrays = {'images': images, 'labels': labels}
    if 'saliency' in method.inputs:
      arrays['saliency'] = _find_saliency(context, images, labels, network)
    inputs = [arrays[name] for name in method.inputs]
    return Mixed(*mix_all(key, indices, *inputs))

  return mix


def _find_saliency(
  context: MixContext, images: jax.Array, labels: jax.Array, network: Network
) -> jax.Array:
  """Returns the saliency of unmixed images by the gradient of their loss.

  Args:
    context: of the mixing.
    images: uint8 `[B, H, W, C]`.
    labels: int32 `[B]`.
    network: postprocessed images to logits.

  Returns:
    float32 `[B, H, W]`, through which nothing is differentiated.
  """

  def loss(inputs: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(network(inputs).astype(jnp.float32))
    return -jnp.sum(jax.nn.one_hot(labels, context.num_classes) * log_probs)

  inputs = context.postprocess(images.astype(jnp.float32))
  gradient = jax.lax.stop_gradient(jax.grad(loss)(inputs))
  return jaxmix.gradient_saliency(gradient)


def _mix_activations(
  method: Method, options: dict[str, Any], context: MixContext
) -> Mixing:
  """Makes the mixing of activations, by one draw for all virtual devices."""
  layers = options.pop('layers')
  known = dict(enumerate(context.activation_shapes()))
  if not set(layers) <= known.keys():
    raise ValueError(
      f'config.mix.layers={layers!r} must be numbers of activations of the '
      f'network, from 0 (its input) to {len(known) - 1}'
    )

  def draw(key: jax.Array, batch_size: int) -> jaxmix.HiddenMix:
    shapes = {k: (batch_size, *known[k]) for k in layers}
    return method.draw(key, shapes, **options)

  check_draw(functools.partial(draw, batch_size=context.virtual_batch_size))
  everywhere, split = PartitionSpec(), PartitionSpec('data')

  def mix(
    key: jax.Array,
    indices: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    network: Network,
  ) -> Mixed:
    del indices, network
    drawn = draw(key, len(images) // context.virtual_devices)

    def pairs(drawn: jaxmix.HiddenMix, labels: jax.Array) -> PairTargets:
      del labels  # which say how many examples there are
      return PairTargets(drawn.lam, drawn.partner)

    def hook(k: int, activations: jax.Array) -> jax.Array:
      if k not in drawn.weights:
        return activations

      def apply(drawn: jaxmix.HiddenMix, activations: jax.Array) -> jax.Array:
        return jaxmix.apply_hidden(drawn, k, activations)

      return context.map_virtual_devices(apply, everywhere, split)(
        drawn, activations
      )

    return Mixed(
      context.postprocess(images.astype(jnp.float32)),
      context.map_virtual_devices(pairs, everywhere, split)(drawn, labels),
      hook,
      method.loss_factor(drawn) if method.loss_factor else None,
    )

  return mix
