"""PatchUp: Faramarzi et al., AAAI 2022."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxmix._src.boxes import inside
from jaxmix._src.checks import check_key, check_number, check_shape
from jaxmix._src.cutmix import draw_cutmix
from jaxmix._src.hidden_states.hidden_mix import HiddenMix, check_layers
from jaxmix._src.pairing import draw_partner
from jaxmix._src.ratio import draw_ratio
from jaxmix._src.start import split_key


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
  """Draws a PatchUp: blocks of one state of a network are swapped or mixed.

  Which state is uniform over `shapes`. In a hidden one each channel has blocks
  of its own, the same for all samples: every unit is the middle of a block
  with a probability that makes the share of the blocks about `gamma`, and what
  the blocks cover has the weight lambda; 0 where `hard`. In the input, 0, it is
  one box, swapped: a CutMix.

  With p the share of what no block covers, `lam = p + (1 - p) * lambda`. The
  paper's loss, `p CE(own) + (1 - p) CE(lambda own + (1 - lambda) partner's) +
  CE(lam own + (1 - lam) partner's)`, is linear in the labels and thus twice
  `jaxmix.mixed_cross_entropy` where `layer` is not -1.

  Args:
    key: random key.
    shapes: for the number of each state that may be drawn, its shape
      `[B, *spatial, C]`; 0 is the input.
    hard: swaps the blocks (Hard PatchUp), and does not mix them (Soft PatchUp).
    probability: that anything is mixed at all.
    gamma: from 0 to 1. The official commands have gamma 0.75 and probability 1
      where not `hard`, 0.5 and 0.7 where it is.
    block_size: the side of a block, odd.
    alpha: above 0; lambda ~ Beta(alpha, alpha). 2 in the official code.
    pairing: see `jaxmix.draw_partner`.

  Returns:
    A `HiddenMix`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown, or the side
      of a hidden state is smaller than a block.

  >>> shapes = {0: (4, 8, 8, 3), 1: (4, 8, 8, 16)}
  >>> mix = draw_patchup(jax.random.key(0), shapes, block_size=3)
  >>> mix.weights[1].shape
  (8, 8, 16)
  """
  check_key(key)
  numbers = check_layers(shapes)
  check_number('probability', probability, 0, 1)
  check_number('gamma', gamma, 0, 1)
  batch = check_shape(shapes[numbers[0]])[0]
  for number in numbers:
    _check_state(number, shapes[number], batch, block_size)

  pair_key, choice_key, mode_key = split_key(key)
  partner = draw_partner(pair_key, batch, pairing=pairing)
  layer_key, mixed_key = jax.random.split(choice_key)
  ratio_key, *weight_keys = jax.random.split(mode_key, 1 + len(numbers))
  own = jnp.float32(0)
  if not hard:
    own = draw_ratio(ratio_key, 1, alpha)[0]
  weights, shares = {}, {}
  for number, weight_key in zip(numbers, weight_keys, strict=True):
    if number == 0:
      pasted, foreign = _box(weight_key, shapes[0]), jnp.float32(0)
    else:
      blocks = _blocks(weight_key, shapes[number][1:], gamma, block_size)
      pasted, foreign = blocks, own
    weights[number] = jnp.where(pasted, foreign, 1.0)
    part = jnp.mean(pasted, dtype=jnp.float32)  # exact: it counts
    shares[number] = 1 - part * (1 - foreign)

  mixed = jax.random.uniform(mixed_key) < probability
  layer = jax.random.choice(layer_key, jnp.asarray(numbers))
  layer = jnp.where(mixed, layer, -1)
  # The share of the state that was drawn; where none was, all is one's own.
  lam = jnp.float32(1)
  for number in numbers:
    lam = jnp.where(layer == number, shares[number], lam)
  return HiddenMix(
    lam=jnp.broadcast_to(lam, (batch,)),
    partner=partner,
    layer=layer,
    weights=weights,
  )


def _check_state(
  number: int, shape: tuple[int, ...], batch: int, block_size: Any
) -> None:
  """Raises ValueError unless blocks of this size fit into a state."""
  rows, space = check_shape(shape)
  if rows != batch:
    raise ValueError(
      f'shapes differ in batch size: {list(shape)} for a batch of {batch}.'
    )
  if type(block_size) is not int or block_size < 1 or block_size % 2 == 0:
    raise ValueError(f'block_size={block_size!r} must be odd, 1 or more.')
  if number and min(space) < block_size:
    raise ValueError(
      f'block_size={block_size} is more than a side of state {number}, of '
      f'shape {list(shape[1:])}.'
    )


def _box(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """What a CutMix pastes: bool `[*spatial, 1]`."""
  box = draw_cutmix(key, (1, *shape[1:])).box
  assert box is not None
  return inside(box, shape[1:-1])[0, ..., None]


def _blocks(
  key: jax.Array, shape: tuple[int, ...], gamma: float, size: int
) -> jax.Array:
  """What the blocks cover: bool `[*spatial, C]`.

  The rate is DropBlock's (Ghiasi et al., NeurIPS 2018), but blocks may begin
  at the border, where they are cut off.
  """
  space = shape[:-1]
  rate = gamma * math.prod(n / (size * (n - size + 1)) for n in space)
  # Drawn flat: XLA's CPU compiler is slow over random arrays of several axes.
  middles = jax.random.uniform(key, (math.prod(shape),)) < rate
  blocks = middles.reshape(shape).astype(jnp.float32)
  for axis in range(len(space)):  # a block is a product of intervals
    window = [1] * len(shape)
    window[axis] = size
    blocks = jax.lax.reduce_window(
      blocks, 0.0, jax.lax.max, tuple(window), (1,) * len(shape), 'SAME'
    )
  return blocks > 0
