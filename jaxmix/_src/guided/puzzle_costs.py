"""Costs of a mask of Puzzle Mix: Kim et al., ICML 2020, equation (5)."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxmix._src.blocks import fractions
from jaxmix._src.guided.graph_cut import Costs, collect


def mask_costs(
  saliency: jax.Array,
  images: jax.Array,
  partner: jax.Array,
  ratio: jax.Array,
  *,
  count: int,
  levels: int,
  label_smoothness: float,
  data_smoothness: float,
  prior: float,
) -> Costs:
  """Returns the costs of a mask; label l of the cut is z = l / (levels - 1).

  With b = label_smoothness / (16 n) a pair of neighbours with z and w costs

      b (z - w)^2 + b data_smoothness (z w D(x, x) + z (1 - w) D(x, x')
                     + (1 - z) w D(x', x) + (1 - z)(1 - w) D(x', x'))

  where D(x, x') is the mean absolute difference, over their border, between
  pixels of x in the first block and of x' in the second; z w is written as
  (z^2 + w^2 - (z - w)^2) / 2, and z^2 as z, as in the published code (with
  three levels that is not equal), and a constant is added.

  Args:
    saliency: `[B, H, W]`.
    images: `[B, H, W, C]`.
    partner: int32 `[B]`.
    ratio: float32 `[1]` or `[B]`, the mean of the prior.
    count: n, blocks per side.
    levels: see `jaxmix.draw_puzzle_mix`.
    label_smoothness: see `jaxmix.draw_puzzle_mix`.
    data_smoothness: see `jaxmix.draw_puzzle_mix`.
    prior: see `jaxmix.draw_puzzle_mix`.
  """
  fraction = fractions(saliency, count)
  unit = label_smoothness / count / 16
  pairs = [
    tuple(unit * data_smoothness * d for d in _differences(edges, partner))
    for edges in (_edges(images, count, 1), _edges(images, count, 2))
  ]
  # The linear part of a pair's cost is divided between its first and second
  # block: for the own block, and for the partner's.
  own = fraction[partner] + collect(
    *(
      half / 2
      for both, first, second, _ in pairs
      for half in (both + first, both + second)
    )
  )
  others = fraction + collect(
    *(
      half / 2
      for _, first, second, none in pairs
      for half in (second + none, first + none)
    )
  )
  down, right = (
    # With pixels of a range above 1 this could be negative.
    jnp.maximum(unit + (first + second - both - none) / 2, 0)
    for both, first, second, none in pairs
  )
  label = jnp.arange(levels)
  z = label / (levels - 1)
  ways = np.log([math.comb(levels - 1, i) for i in range(levels)])
  mean = ratio[:, None]
  log_prior = (
    ways.astype(np.float32)
    + label * jnp.log(mean + 1e-8)
    + (levels - 1 - label) * jnp.log(1 - mean + 1e-8)
  )
  unary = own[..., None] * z + others[..., None] * (1 - z)
  unary -= prior / count**2 * log_prior[:, None, None, :]
  return Costs(unary, down, right)


def _edges(
  images: jax.Array, count: int, axis: int
) -> tuple[jax.Array, jax.Array]:
  """Returns the pixels on both sides of the borders along an axis.

  They are averages over up to four pixels across and along the border, if that
  number divides a block.

  Returns:
    Two of `[B, count - 1, count, pieces, C]` (axis 1) or
    `[B, count, count - 1, pieces, C]` (axis 2), in [0, 1] for uint8.
  """
  batch, height, width, channels = images.shape
  values = images.astype(jnp.float32)
  if images.dtype == np.uint8:
    values = values / 255
  rows, columns = height // count, width // count
  deep, wide = (
    max(d for d in (1, 2, 3, 4) if n % d == 0) for n in (rows, columns)
  )
  values = values.reshape(
    batch, count, rows // deep, deep, count, columns // wide, wide, channels
  ).mean(axis=(3, 6))
  if axis == 1:
    return values[:, :-1, -1], values[:, 1:, 0]
  values = values.swapaxes(2, 3)
  return values[:, :, :-1, :, -1], values[:, :, 1:, :, 0]


def _differences(
  edges: tuple[jax.Array, jax.Array], partner: jax.Array
) -> tuple[jax.Array, ...]:
  """Returns D(x, x), D(x, x'), D(x', x) and D(x', x'), each `[B, ...]`."""
  first, second = edges
  return tuple(
    jnp.mean(jnp.abs(a - b), axis=(-2, -1))
    for a in (first, first[partner])
    for b in (second, second[partner])
  )
