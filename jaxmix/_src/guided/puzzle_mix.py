"""Puzzle Mix: Kim et al., ICML 2020."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src import blocks as grids
from jaxmix._src.checks import (
  check_grid,
  check_images,
  check_number,
  check_saliency,
  is_concrete,
)
from jaxmix._src.guided.graph_cut import cut
from jaxmix._src.guided.puzzle_costs import mask_costs
from jaxmix._src.guided.saliency import spectral_residual
from jaxmix._src.guided.transport import transport
from jaxmix._src.labels import mix_labels
from jaxmix._src.mix import Mix, apply
from jaxmix._src.ratio import draw_ratio
from jaxmix._src.start import start_draw

_TILES = 8  # a side, at least, of the grid on which blocks are moved


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
) -> Mix:
  """Draws a Puzzle Mix: a mask that keeps what is salient in both images.

  The batch is cut into n x n blocks, n from `blocks`. With z the weight of the
  image's own block and s, s' the shares of saliency of the image and of its
  partner, the mask minimises

      sum (1 - z) s + z s'  +  smoothness of z  -  prior * log p(z) / n^2

  (equation 5; see `mask_costs`), p the binomial law of levels - 1 trials with
  mean Beta(alpha, alpha); then the blocks of both images are moved to where
  they are seen (section 4.2; see `transport`). The numbers are those of the
  official runs on CIFAR-100. `lam` is the exact mean of the mask.

  Args:
    key: random key.
    saliency: `[B, H, W]`, of each image before the mixing; the paper's is
      `jaxmix.gradient_saliency`.
    images: `[B, H, W, C]`, uint8, or floating point with a range of about 1.
    alpha: above 0; 1 makes the ratio uniform.
    blocks: how many a side, 2 or more; one of them is drawn for the batch. Each
      must divide H and W.
    levels: of z: 2, which copies pixels, or 3, which blends some evenly.
    label_smoothness: what a border between blocks of different z costs.
    data_smoothness: from 0 to 1, how much of that depends on the pixels there.
    prior: the weight of the ratio that was drawn.
    transport_cost: of a block's squared distance; None moves no blocks.
    pairing: see `jaxmix.draw_partner`.
    granularity: `'batch'`, one ratio for all (the official law), or `'sample'`.

  Returns:
    A `Mix` with `mask` and, unless `transport_cost` is None, `order`.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 3))
  >>> saliency = spectral_residual(images)
  >>> mix = draw_puzzle_mix(jax.random.key(1), saliency, images, blocks=(4,))
  >>> mix.mask.shape, mix.order.shape
  ((4, 8, 8), (4, 2, 8, 8))
  """
  images = check_images(images)
  saliency = check_saliency(saliency, images.shape)
  if not isinstance(blocks, Sequence) or not blocks:
    raise ValueError(f'blocks={blocks!r} must be one or more whole numbers.')
  for n in blocks:
    check_grid('blocks', n, images.shape)
  space = images.shape[1:3]
  if levels not in (2, 3):
    raise ValueError(f'levels={levels!r} must be 2 or 3.')
  check_number('label_smoothness', label_smoothness, 0, 1e6)
  check_number('data_smoothness', data_smoothness, 0, 1)
  check_number('prior', prior, 0, 1e6)
  if transport_cost is not None:
    check_number('transport_cost', transport_cost, 0, 1e6)
  batch, _, count, partner, key = start_draw(
    key, images.shape, pairing=pairing, granularity=granularity
  )
  ratio_key, choice_key = jax.random.split(key)
  ratio = draw_ratio(ratio_key, count, alpha)
  tiles = [_tiles(n, space) for n in blocks]
  finest = math.lcm(*tiles)

  def solve(n: int, tiles: int) -> tuple[jax.Array, jax.Array]:
    """The mask on the pixels, and the order of the blocks of both images."""
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
    mask = grids.spread(weight, space)
    if transport_cost is None:
      return mask, mask
    share = grids.shares(saliency, tiles)
    weight = grids.spread(weight, (tiles, tiles))
    # Both in one batch: the images, then their partners.
    order = transport(
      jnp.concatenate([share, share[partner]]),
      jnp.concatenate([weight > 0, weight < 1]),
      transport_cost,
    )
    order = grids.refine(order, finest)
    return mask, jnp.stack(jnp.split(order, 2), axis=1)

  branches = [
    functools.partial(solve, n, t) for n, t in zip(blocks, tiles, strict=True)
  ]
  choice = jax.random.randint(choice_key, (), 0, len(blocks))
  if len(branches) == 1:
    mask, order = branches[0]()
  elif is_concrete(choice) and is_concrete(images):
    mask, order = branches[int(choice)]()  # a switch would compile every time
  else:
    mask, order = jax.lax.switch(choice, branches)
  return Mix(
    # NaN, where alpha is traced and out of range, must not become a mask.
    lam=jnp.mean(mask, axis=(1, 2)) + 0 * ratio,
    partner=partner,
    mode=jnp.zeros(batch, jnp.int32),
    mask=mask > 0 if levels == 2 else mask,
    order=None if transport_cost is None else order,
  )


def _tiles(count: int, space: tuple[int, ...]) -> int:
  """Of what a block is moved in: whole, or in parts if it is large."""
  tiles = count * -(-_TILES // count)
  return count if any(length % tiles for length in space) else tiles


def puzzle_mix(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
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
    num_classes: `K`, for integer labels.
    saliency: `[B, H, W]`; the paper's is `jaxmix.gradient_saliency`. None:
      `jaxmix.spectral_residual`, which asks no network.
    alpha: above 0; 1 makes the ratio uniform.
    blocks: how many a side; one of them is drawn for the batch.
    levels: of a block's weight, 2 or 3.
    label_smoothness: what a border of the mask costs.
    data_smoothness: from 0 to 1, how much of that depends on the pixels.
    prior: the weight of the ratio that was drawn.
    transport_cost: of a block's squared distance; None moves no blocks.
    pairing: see `jaxmix.draw_partner`.
    granularity: `'batch'` (one ratio for all) or `'sample'`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 3))
  >>> _, mixed = puzzle_mix(
  ...   jax.random.key(0), images, jnp.array([0, 1, 2, 0]), num_classes=3,
  ...   blocks=(4,)
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
  return apply(mix, images), mix_labels(mix, labels, num_classes=num_classes)
