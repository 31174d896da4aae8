"""PatchUp: Faramarzi et al., AAAI 2022."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix._src.boxes import inside
from jaxmix._src.checks import check_key, check_number, check_shape
from jaxmix._src.cutmix import draw_cutmix
from jaxmix._src.hidden_states.hidden_mix import (
  HiddenMix,
  check_layers,
  choose_layer,
)
from jaxmix._src.pairing import draw_partner
from jaxmix._src.ratio import draw_ratio
from jaxmix._src.settings import in_any_setting


@in_any_setting
def draw_patchup(
  key: jax.Array,
  shapes: Mapping[int, tuple[int, ...]],
  *,
  hard: bool = False,
  probability: float = 1.0,
  gamma: float = 0.75,
  block_size: int = 7,
  alpha: Any = 2.0,
  pairing: str = 'permutation',
) -> HiddenMix:
  """Draws a PatchUp: blocks of one layer's activations are swapped or mixed.

  The layer is uniform over `shapes`. In a hidden layer each channel has its own
  blocks, the same for all samples. Every unit is the centre of a block with a
  probability that makes the fraction of covered units about `gamma`. Covered
  units have the weight lambda, or 0 if `hard`. In the input, layer 0, one box
  is swapped as in CutMix.

  With p the fraction of units that no block covers,
  `lam = p + (1 - p) * lambda`. The paper's loss, `p CE(own) + (1 - p)
  CE(lambda own + (1 - lambda) partner's) + CE(lam own + (1 - lam) partner's)`,
  is linear in the labels and therefore equals twice
  `jaxmix.mixed_cross_entropy`, unless `layer` is -1.

  Args:
    key: random key.
    shapes: the shape `[B, *spatial, C]` of each layer that may be drawn, by its
      number; 0 is the input.
    hard: True swaps the blocks (Hard PatchUp), False mixes them (Soft PatchUp).
    probability: probability that the batch is mixed at all.
    gamma: fraction of units to cover, from 0 to 1. The official commands use
      gamma 0.75 with probability 1 for Soft, 0.5 with 0.7 for Hard PatchUp.
    block_size: side of a block, an odd number.
    alpha: parameter of Beta(alpha, alpha), above 0; 2 in the official code.
    pairing: how partners are chosen, see `jaxmix.draw_partner`.

  Returns:
    A `HiddenMix`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown, or a hidden
      layer is smaller than a block.

  >>> shapes = {0: (4, 8, 8, 3), 1: (4, 8, 8, 16)}
  >>> draw = jax.jit(lambda key: draw_patchup(key, shapes, block_size=3))
  >>> mix = draw(jax.random.key(0))
  >>> mix.weights[1].shape
  (8, 8, 16)
  """
  check_key(key)
  numbers = check_layers(shapes)
  check_number('probability', probability, 0, 1)
  check_number('gamma', gamma, 0, 1)
  batch = check_shape(shapes[numbers[0]])[0]
  for number in numbers:
    _check_layer(number, shapes[number], batch, block_size)

  pair_key, choice_key, mode_key = jax.random.split(key, 3)
  partner = draw_partner(pair_key, batch, pairing=pairing)
  layer_key, mixed_key = jax.random.split(choice_key)
  ratio_key, *weight_keys = jax.random.split(mode_key, 1 + len(numbers))
  own = jnp.float32(0)
  if not hard:
    own = draw_ratio(ratio_key, 1, alpha)[0]
  weights, own_fractions = {}, {}
  for number, weight_key in zip(numbers, weight_keys, strict=True):
    if number == 0:
      pasted, weight = _box(weight_key, shapes[0]), jnp.float32(0)
    else:
      blocks = _blocks(weight_key, shapes[number][1:], gamma, block_size)
      pasted, weight = blocks, own
    weights[number] = jnp.where(pasted, weight, 1.0)
    covered = jnp.mean(pasted, dtype=jnp.float32)  # exact: a count over a size
    own_fractions[number] = 1 - covered * (1 - weight)

  mixed = jax.random.uniform(mixed_key, (), jnp.float32) < probability
  uniform = jax.random.uniform(layer_key, (), jnp.float32)
  layer = choose_layer(uniform, numbers)
  layer = jnp.where(mixed, layer, -1)
  # The fraction of the layer that was drawn; 1 if no layer is mixed.
  lam = jnp.float32(1)
  for number in numbers:
    lam = jnp.where(layer == number, own_fractions[number], lam)
  return HiddenMix(
    lam=jnp.broadcast_to(lam, (batch,)),
    partner=partner,
    layer=layer,
    weights=weights,
  )


def _check_layer(
  number: int, shape: tuple[int, ...], batch: int, block_size: Any
) -> None:
  """Raises ValueError unless blocks of this size fit into a layer."""
  own_batch, spatial_shape = check_shape(shape)
  if own_batch != batch:
    raise ValueError(
      f'shapes must have one batch size; layer {number} has {list(shape)}, '
      f'another has a batch of {batch}.'
    )
  if type(block_size) is not int or block_size < 1 or block_size % 2 == 0:
    raise ValueError(
      f'block_size={block_size!r} must be an odd whole number of 1 or more.'
    )
  if number and min(spatial_shape) < block_size:
    raise ValueError(
      f'block_size={block_size} exceeds a side of layer {number}, which has '
      f'shape {list(shape[1:])}.'
    )


def _box(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Draws the box of a CutMix as a mask: bool `[*spatial, 1]`."""
  axes = tuple(range(1, len(shape) - 1))
  box = draw_cutmix(key, (1, *shape[1:]), spatial_axes=axes).box
  assert box is not None
  return inside(box, shape[1:-1])[0, ..., None]


def _blocks(
  key: jax.Array, shape: tuple[int, ...], gamma: float, size: int
) -> jax.Array:
  """Draws the units that the blocks cover: bool `[*spatial, C]`.

  The rate is that of DropBlock (Ghiasi et al., NeurIPS 2018), but the centre of
  a block may be anywhere, and blocks are clipped at the border.
  """
  spatial_shape = shape[:-1]
  rate = gamma * math.prod(n / (size * (n - size + 1)) for n in spatial_shape)
  # Drawn flat: XLA's CPU compiler is slow over random arrays of several axes.
  centres = jax.random.uniform(key, (math.prod(shape),), jnp.float32) < rate
  blocks = centres.reshape(shape).astype(jnp.float32)
  for axis in range(len(spatial_shape)):  # a block is a product of intervals
    window = [1] * len(shape)
    window[axis] = size
    blocks = jax.lax.reduce_window(
      blocks,
      np.float32(0),
      jax.lax.max,
      tuple(window),
      (1,) * len(shape),
      'SAME',
    )
  return blocks > 0
