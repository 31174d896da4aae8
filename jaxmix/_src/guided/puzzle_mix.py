"""Puzzle Mix: Kim et al., ICML 2020."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src import blocks as grids
from jaxmix._src.batch import mix_batch
from jaxmix._src.checks import (
  check_grid,
  check_images,
  check_layout,
  check_number,
  check_saliency,
  is_concrete,
)
from jaxmix._src.guided.graph_cut import cut
from jaxmix._src.guided.puzzle_costs import mask_costs
from jaxmix._src.guided.saliency import spectral_residual, zero_if_undefined
from jaxmix._src.guided.transport import transport
from jaxmix._src.mix import Mix
from jaxmix._src.ratio import last_number, nan_if_invalid, ratio_of
from jaxmix._src.settings import in_any_setting
from jaxmix._src.start import start_draw

_TILES = 8  # minimal number of tiles per side that are moved


@in_any_setting
def draw_puzzle_mix(
  key: jax.Array,
  saliency: ArrayLike,
  images: ArrayLike,
  *,
  alpha: Any = 1.0,
  blocks: Sequence[int] = (2, 4, 8, 16),
  levels: int = 3,
  label_smoothness: float = 1.2,
  data_smoothness: float = 0.5,
  prior: float = 0.2,
  transport_cost: float | None = 0.8,
  pairing: str = 'permutation',
  granularity: str = 'batch',
  partner: ArrayLike | None = None,
) -> Mix:
  """Draws a Puzzle Mix: a mask that keeps what is salient in both images.

  The images are cut into n x n blocks, n drawn from `blocks`. With z the weight
  of the image's own block, and s, s' the fractions of saliency of the image and
  of its partner in a block, the mask minimises

      sum (1 - z) s + z s'  +  smoothness of z  -  prior * log p(z) / n^2

  (equation 5; see `mask_costs`), p the binomial distribution of levels - 1
  trials with mean lambda ~ Beta(alpha, alpha). Then the blocks of both images
  are moved to where the mask shows them (section 4.2; see `transport`). The
  defaults are those of the official runs on CIFAR-100. `lam` is the exact mean
  of the mask.

  Args:
    key: random key.
    saliency: `[B, H, W]`, the saliency of each image before mixing; the paper
      uses `jaxmix.gradient_saliency`. A map that is not finite counts as one
      without saliency.
    images: `[B, H, W, C]`, uint8, or floating point with a range of about 1.
    alpha: see `jaxmix.draw_cutmix`.
    pairing: see `jaxmix.draw_cutmix`.
    blocks: numbers of blocks per side, each 2 or more and a divisor of H and W;
      one of them is drawn for the batch.
    levels: number of values of z: 2 copies pixels, 3 blends some evenly.
    label_smoothness: cost of a border between blocks of different z.
    data_smoothness: from 0 to 1, the part of that cost that depends on the
      pixels at the border.
    prior: weight of the ratio that was drawn.
    transport_cost: cost of the squared distance of a moved block; None: no
      block is moved.
    granularity: `'batch'`: one ratio for the whole batch (the official code).
      `'sample'`: a ratio for each sample.
    partner: see `jaxmix.draw_cutmix`.

  Returns:
    A `Mix` with `mask` and, unless `transport_cost` is None, `order`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> saliency, images = jnp.ones((4, 8, 8)), jnp.ones((4, 8, 8, 3))
  >>> draw = jax.jit(draw_puzzle_mix, static_argnames='blocks')
  >>> mix = draw(jax.random.key(0), saliency, images, blocks=(4,))
  >>> mix.mask.shape, mix.order.shape
  ((4, 8, 8), (4, 2, 8, 8))
  """
  images = check_images(images)
  check_layout(images.shape)
  saliency = zero_if_undefined(check_saliency(saliency, images.shape))
  if not isinstance(blocks, Sequence) or not blocks:
    raise ValueError(
      f'blocks={blocks!r} must be a sequence of one or more whole numbers.'
    )
  for n in blocks:
    check_grid('blocks', n, images.shape)
  spatial_shape = images.shape[1:3]
  if levels not in (2, 3):
    raise ValueError(f'levels={levels!r} must be 2 or 3.')
  check_number('label_smoothness', label_smoothness, 0, 1e6)
  check_number('data_smoothness', data_smoothness, 0, 1)
  check_number('prior', prior, 0, 1e6)
  if transport_cost is not None:
    check_number('transport_cost', transport_cost, 0, 1e6)
  start = start_draw(
    key,
    images.shape,
    pairing=pairing,
    granularity=granularity,
    partner=partner,
    last=last_number(alpha, 'choice'),
  )
  partner = start.partner
  ratio = ratio_of(start.ratio, start.angle, alpha)
  tiles = [_tiles(n, spatial_shape) for n in blocks]
  finest = math.lcm(*tiles)

  def solve(n: int, tiles: int) -> tuple[jax.Array, jax.Array]:
    """Returns the mask on the pixels and the order of both images' blocks."""
    costs = mask_costs(
      saliency,
      images,
      partner,
      ratio,
      count=n,
      levels=levels,
      label_smoothness=label_smoothness,
      data_smoothness=data_smoothness,
      prior=prior,
    )
    weight = cut(costs) / (levels - 1)
    mask = grids.upsample(weight, spatial_shape)
    if transport_cost is None:
      return mask, mask
    fraction = grids.fractions(saliency, tiles)
    weight = grids.upsample(weight, (tiles, tiles))
    # One batch of the images, followed by their partners.
    order = transport(
      jnp.concatenate([fraction, fraction[partner]]),
      jnp.concatenate([weight > 0, weight < 1]),
      transport_cost,
    )
    order = grids.refine(order, finest)
    return mask, jnp.stack(jnp.split(order, 2), axis=1)

  branches = [
    functools.partial(solve, n, t) for n, t in zip(blocks, tiles, strict=True)
  ]
  choice = (start.choice[0] * len(blocks)).astype(jnp.int32)
  if len(branches) == 1:
    mask, order = branches[0]()
  elif is_concrete(choice) and is_concrete(images):
    # Outside jit, a switch would be compiled at every call.
    mask, order = branches[int(choice)]()
  else:
    mask, order = jax.lax.switch(choice, branches)
  return Mix(
    lam=nan_if_invalid(jnp.mean(mask, axis=(1, 2)), alpha),
    partner=partner,
    mask=mask > 0 if levels == 2 else mask,
    order=None if transport_cost is None else order,
    spatial_shape=spatial_shape,
  )


def _tiles(count: int, spatial_shape: tuple[int, ...]) -> int:
  """Returns the tiles per side that are moved; large blocks have several."""
  tiles = count * -(-_TILES // count)
  return count if any(length % tiles for length in spatial_shape) else tiles


def puzzle_mix(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
  where: ArrayLike | None = None,
  saliency: ArrayLike | None = None,
  alpha: Any = 1.0,
  blocks: Sequence[int] = (2, 4, 8, 16),
  levels: int = 3,
  label_smoothness: float = 1.2,
  data_smoothness: float = 0.5,
  prior: float = 0.2,
  transport_cost: float | None = 0.8,
  pairing: str = 'permutation',
  granularity: str = 'batch',
) -> tuple[jax.Array, jax.Array]:
  """Puzzle Mix: the salient blocks of both images, side by side.

  Args:
    key: random key.
    images: `[B, H, W, C]`, uint8, or floating point with a range of about 1.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    label_smoothing: see `jaxmix.random_mix`.
    where: see `jaxmix.random_mix`.
    saliency: `[B, H, W]`; the paper uses `jaxmix.gradient_saliency`. None:
      `jaxmix.spectral_residual`, which needs no network.
    alpha: see `jaxmix.draw_puzzle_mix`.
    pairing: see `jaxmix.draw_puzzle_mix`.
    granularity: see `jaxmix.draw_puzzle_mix`.
    blocks: see `jaxmix.draw_puzzle_mix`.
    levels: see `jaxmix.draw_puzzle_mix`.
    label_smoothness: see `jaxmix.draw_puzzle_mix`.
    data_smoothness: see `jaxmix.draw_puzzle_mix`.
    prior: see `jaxmix.draw_puzzle_mix`.
    transport_cost: see `jaxmix.draw_puzzle_mix`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.array([0, 1, 2, 0])
  >>> mix = jax.jit(puzzle_mix, static_argnames=('num_classes', 'blocks'))
  >>> _, mixed = mix(
  ...   jax.random.key(0), images, labels, num_classes=3, blocks=(2,)
  ... )
  >>> bool(jnp.allclose(mixed.sum(1), 1))
  True
  """
  images = check_images(images)
  if saliency is None:
    saliency = spectral_residual(images)
  mix = draw_puzzle_mix(
    key,
    saliency,
    images,
    alpha=alpha,
    blocks=blocks,
    levels=levels,
    label_smoothness=label_smoothness,
    data_smoothness=data_smoothness,
    prior=prior,
    transport_cost=transport_cost,
    pairing=pairing,
    granularity=granularity,
  )
  return mix_batch(
    mix,
    images,
    labels,
    num_classes=num_classes,
    label_smoothing=label_smoothing,
    where=where,
  )
