"""The networks of the paper, one family per file."""

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
  """Builds the network that `config.model` describes.

  Args:
    model_config: `name` (a key of `FAMILIES`), `dtype` of the computation
      (parameters, statistics and logits are float32) and the fields of the
      family, e.g. `depth` and `width`.
    num_classes: the number of logits.
    ghost_batches: equal parts of a batch, each of which BatchNorm normalises by
      itself in training.

  Raises:
    ValueError: a field is unknown, missing or has a value that cannot be
      built.
  """
  fields = dict(model_config)
  name, dtype = fields.pop('name'), fields.pop('dtype')
  if name not in FAMILIES:
    raise ValueError(
      f'config.model.name={name!r} is unknown; allowed: {sorted(FAMILIES)}'
    )
  if dtype not in DTYPES:
    raise ValueError(
      f'config.model.dtype={dtype!r} is unknown; allowed: {sorted(DTYPES)}'
    )
  family = FAMILIES[name]
  known = set(family.__dataclass_fields__)
  known -= {'parent', 'name', 'dtype', 'num_classes', 'ghost_batches'}
  if missing := sorted(known - fields.keys()):
    raise ValueError(f'config.model.{missing[0]} is missing: {name} needs it')
  for field, value in fields.items():
    if field not in known:
      raise ValueError(
        f'config.model.{field} is not a field of {name}; allowed: '
        f'{sorted(known)}'
      )
    # True would be a width of 1; a depth of a million, a hang.
    if type(value) is not int or not 1 <= value <= 2048:
      raise ValueError(
        f'config.model.{field}={value!r} must be an integer of 1 or more (up '
        'to 2048)'
      )
  # A depth of 4 would be a network without a block.
  if name == 'wide_resnet' and (
    fields['depth'] < 10 or fields['depth'] % 6 != 4
  ):
    raise ValueError(
      f'config.model.depth={fields["depth"]} must be 6n + 4 (10, 16, 22, 28)'
    )
  return family(
    num_classes=num_classes,
    dtype=DTYPES[dtype],
    ghost_batches=ghost_batches,
    **fields,
  )


def states(
  model: nn.Module, image_shape: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
  """The shapes `(H, W, C)` of the states that `hidden` is called with.

  Nothing is computed.

  Args:
    model: one that `create` made.
    image_shape: `(H, W, C)` of an image.
  """
  shapes = []

  def note(k: int, x: jax.Array) -> jax.Array:
    assert k == len(shapes)
    shapes.append(x.shape[1:])
    return x

  images = jnp.zeros((1, *image_shape))
  jax.eval_shape(
    lambda key: model.init(key, images, train=False, hidden=note),
    jax.random.key(0),
  )
  return tuple(shapes)
