"""The networks of the paper, one family a file."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxmix.classification.models import preact_resnet, resnet, wide_resnet

FAMILIES = {
  'preact_resnet18': preact_resnet.PreActResNet18,
  'resnet50': resnet.ResNet50,
  'wide_resnet': wide_resnet.WideResNet,
}
DTYPES = {'bfloat16': jnp.bfloat16, 'float32': jnp.float32}


def create(
  model_config: Any, num_classes: int, *, ghost_batches: int = 1
) -> nn.Module:
  """Returns the network that `config.model` describes.

  Args:
    model_config: `name` (a key of `FAMILIES`), `dtype` of the computation
      (parameters, statistics and logits are float32) and the fields of the
      family, such as `depth` and `width`; `schema.SCHEMA` lists them.
    num_classes: the number of logits.
    ghost_batches: equal parts of a batch, each of which BatchNorm normalises by
      itself in training.

  Raises:
    ValueError: a WideResNet cannot have this depth.
  """
  fields = dict(model_config)
  name, dtype = fields.pop('name'), fields.pop('dtype')
  # A depth of 4 would be a network without a block.
  if name == 'wide_resnet' and (
    fields['depth'] < 10 or fields['depth'] % 6 != 4
  ):
    raise ValueError(
      f'config.model.depth={fields["depth"]} must be 6n + 4 (10, 16, 22, 28, …)'
    )
  return FAMILIES[name](
    num_classes=num_classes,
    dtype=DTYPES[dtype],
    ghost_batches=ghost_batches,
    **fields,
  )


def activation_shapes(
  model: nn.Module, image_shape: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
  """Returns the shapes `(H, W, C)` of the activations that a hook can replace.

  Nothing is computed.

  Args:
    model: one that `create` made.
    image_shape: `(H, W, C)` of an image.
  """
  shapes = []

  def hook(k: int, x: jax.Array) -> jax.Array:
    assert k == len(shapes)
    shapes.append(x.shape[1:])
    return x

  images = jnp.zeros((1, *image_shape))
  jax.eval_shape(
    lambda key: model.init(key, images, train=False, activation_hook=hook),
    jax.random.key(0),
  )
  return tuple(shapes)
