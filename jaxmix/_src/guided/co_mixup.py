"""Co-Mixup: Kim et al., ICLR 2021."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src.blocks import shares, take
from jaxmix._src.checks import (
  check_grid,
  check_images,
  check_key,
  check_labels,
  check_number,
  check_saliency,
  check_whole,
)
from jaxmix._src.guided.potts import label_grid
from jaxmix._src.guided.saliency import spectral_residual


def draw_co_mixup(
  key: jax.Array,
  saliency: ArrayLike,
  *,
  group: int = 16,
  grid: int = 4,
  concentration: int = 2,
  border_cost: float = 0.32,
  diversity: float = 1.0,
  threshold: float = 0.83,
  input_prior: float = 0.05,
  sweeps: int = 4,
) -> jax.Array:
  """Draws a Co-Mixup: which image each block of each mixed image is from.

  The batch is taken in groups of m that follow each other; m images are made
  of the m of a group. Blocks of one share s_k of the saliency of image k; with
  N_ok the number of blocks that output o has of k, of the n^2 in all, the
  published code lets one output after the other minimise

      sum_b (-s_k(b) - input_prior / n^2 * log p_k)
      + border_cost / n^2 * borders
      + sum_k 2 diversity / n^2 * M_ok [M_ok > threshold * n^2] N_ok,

  k the image of block b, p ~ Dirichlet(concentration), M_ok = sum_(o' != o)
  N_o'k, from random blocks; the last is
  the paper's modular approximation of its diversity term (section 4). The
  numbers are those of the official runs on CIFAR-100, but for m, there 20.

  Args:
    key: random key.
    saliency: `[B, H, W]`, of each image before the mixing; the paper's is
      `jaxmix.gradient_saliency`.
    group: m, at most; the largest number up to it that divides B is taken.
    grid: n, blocks a side, 2 or more; must divide H and W.
    concentration: 1 or more; the larger, the more alike are the p_k.
    border_cost: of two neighbours of different images.
    diversity: of images that are in many outputs.
    threshold: how many blocks an image may have in the other outputs, as a
      share of its own, before that costs anything.
    input_prior: the weight of p.
    sweeps: how often each output is solved.

  Returns:
    int32 `[B, n, n]`: the sample that each block is taken from, at its place.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> saliency = jax.random.uniform(jax.random.key(0), (8, 8, 8))
  >>> draw_co_mixup(jax.random.key(1), saliency, group=4).shape
  (8, 4, 4)
  """
  check_key(key)
  saliency = check_saliency(saliency)
  check_grid('grid', grid, (*saliency.shape, 1))
  check_whole('group', group, 2)
  check_whole('sweeps', sweeps, 1)
  check_whole('concentration', concentration, 1)
  check_number('border_cost', border_cost, 0, 1e6)
  check_number('diversity', diversity, 0, 1e6)
  check_number('threshold', threshold, 0, 1e6)
  check_number('input_prior', input_prior, 0, 1e6)
  batch = len(saliency)
  size = max(m for m in range(1, min(group, batch) + 1) if batch % m == 0)
  if size == 1 < batch:
    raise ValueError(
      f'group={group!r}: a batch of {batch} falls into no equal groups of 2 to '
      f'{group}; take a larger group or another batch size.'
    )
  groups, places = batch // size, grid**2
  prior_key, start_key = jax.random.split(key)
  # A Dirichlet variable is gamma variables over their sum, which changes no
  # minimum; a gamma variable of a whole number is a sum of exponential ones.
  drawn = jax.random.exponential(prior_key, (concentration * batch,))
  log_share = jnp.log(drawn.reshape(concentration, groups, size).sum(0))
  share = shares(saliency, grid).reshape(groups, size, grid, grid)
  cost = -share - input_prior / places * log_share[:, :, None, None]
  start = jax.random.randint(start_key, (batch * places,), 0, size)
  owner = solve(
    jnp.moveaxis(cost, 1, -1),
    start.reshape(groups, size, grid, grid),
    border=border_cost / places,
    weight=2 * diversity / places,
    limit=threshold * places,
    sweeps=sweeps,
  )
  first = size * jnp.arange(groups, dtype=jnp.int32)
  return (owner + first[:, None, None, None]).reshape(batch, grid, grid)


@functools.partial(jax.jit, static_argnames='sweeps')
def solve(
  cost: jax.Array,
  owner: jax.Array,
  *,
  border: float | jax.Array,
  weight: float | jax.Array,
  limit: float | jax.Array,
  sweeps: int,
) -> jax.Array:
  """One output after the other, given the rest, `sweeps` times.

  Args:
    cost: float32 `[G, n, n, m]`, of a block of each of m images.
    owner: int32 `[G, outputs, n, n]` to begin with.
    border: of two neighbours of different images.
    weight: of a block of an image for each that other outputs have of it.
    limit: how many they may have before that.
    sweeps: 1 or more.

  Returns:
    int32 `[G, outputs, n, n]`.
  """
  outputs = owner.shape[1]
  owner = owner.astype(jnp.int32) + (0 * cost[:, None, :, :, 0]).astype(
    jnp.int32
  )

  def improve(step: jax.Array, owner: jax.Array) -> jax.Array:
    output = step % outputs
    others = _overuse(owner, cost.shape[-1], output, limit)
    found = label_grid(
      cost + weight * others[:, None, None, :], border, owner[:, output]
    )
    return owner.at[:, output].set(found)

  return jax.lax.fori_loop(0, sweeps * outputs, improve, owner)


def _overuse(
  owner: jax.Array,
  images: int,
  output: int | jax.Array,
  limit: float | jax.Array,
) -> jax.Array:
  """The blocks that other outputs have of each image, if above the limit.

  `[G, m]`.
  """
  count = jnp.sum(jax.nn.one_hot(owner, images, dtype=jnp.float32), axis=(2, 3))
  others = jnp.sum(count, axis=1) - count[:, output]
  return jnp.where(others > limit, others, 0)


def take_blocks(images: ArrayLike, owner: ArrayLike) -> jax.Array:
  """Puts images together from blocks of several: `draw_co_mixup`, applied.

  Args:
    images: `[B, H, W, C]`, of any dtype.
    owner: int32 `[B, n, n]`: the sample of each block; `n` must divide the
      sides.

  Returns:
    The images in their dtype; every pixel is copied.

  Raises:
    ValueError: shapes that do not fit.

  >>> images = jnp.array([1, 2]).reshape(2, 1, 1, 1) * jnp.ones((2, 2, 2, 1))
  >>> take_blocks(images, jnp.array([[[0, 1], [1, 1]]] * 2))[0, ..., 0].tolist()
  [[1.0, 2.0], [2.0, 2.0]]
  """
  images, owner = check_images(images, any_dtype=True), jnp.asarray(owner)
  check_owner(owner, len(images))
  check_grid('blocks of owner', owner.shape[1], images.shape)
  return take(images, owner)


def block_labels(
  labels: ArrayLike, owner: ArrayLike, *, num_classes: int | None = None
) -> jax.Array:
  """The labels of images put together from blocks: shares of their area.

  Args:
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    owner: int32 `[B, n, n]`, as for `jaxmix.take_blocks`.
    num_classes: `K`, for integer labels.

  Returns:
    `[B, K]`: float32 for integer labels, else in the dtype of `labels`. An
    integer label outside `[0, K)` that is known only under `jit` gives NaN.

  Raises:
    ValueError, TypeError: labels of another batch size, dtype or range.

  >>> owner = jnp.array([[[0, 1], [1, 1]], [[1, 1], [1, 1]]])
  >>> block_labels(jnp.array([0, 2]), owner, num_classes=3).tolist()
  [[0.25, 0.0, 0.75], [0.0, 0.0, 1.0]]
  """
  owner = jnp.asarray(owner)
  labels = check_labels(labels, len(owner), num_classes)
  check_owner(owner, len(labels))
  if labels.ndim == 1:
    assert num_classes is not None
    known = ((labels >= 0) & (labels < num_classes))[:, None]
    rows = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    labels = jnp.where(known, rows, jnp.nan)
  flat = owner.reshape(len(owner), -1)
  return jnp.mean(labels[flat].astype(jnp.float32), axis=1).astype(labels.dtype)


def check_owner(owner: jax.Array, batch: int) -> None:
  """Raises ValueError unless `owner` is `[batch, n, n]`."""
  shape = owner.shape
  if len(shape) != 3 or shape[0] != batch or shape[1] != shape[2]:
    raise ValueError(
      f'owner must be [batch, n, n] for a batch of {batch}; got shape '
      f'{list(shape)}.'
    )


def co_mixup(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  saliency: ArrayLike | None = None,
  group: int = 16,
  grid: int = 4,
  concentration: int = 2,
  border_cost: float = 0.32,
  diversity: float = 1.0,
  threshold: float = 0.83,
  input_prior: float = 0.05,
  sweeps: int = 4,
) -> tuple[jax.Array, jax.Array]:
  """Co-Mixup: each image is put together from the salient blocks of several.

  Args:
    key: random key.
    images: `[B, H, W, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: `K`, for integer labels.
    saliency: `[B, H, W]`; the paper's is `jaxmix.gradient_saliency`. None:
      `jaxmix.spectral_residual`, which asks no network.
    group: how many images share their blocks, at most.
    grid: blocks a side.
    concentration: 1 or more; the larger, the more alike the images' chances.
    border_cost: of two neighbours of different images.
    diversity: of images that are in many outputs.
    threshold: from where on that costs anything, as a share of one image.
    input_prior: the weight of the chances.
    sweeps: how often each output is solved.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images = jax.random.uniform(jax.random.key(0), (4, 8, 8, 3))
  >>> _, mixed = co_mixup(
  ...   jax.random.key(0), images, jnp.array([0, 1, 2, 0]), num_classes=3
  ... )
  >>> bool(jnp.allclose(mixed.sum(1), 1))
  True
  """
  images = check_images(images)
  if saliency is None:
    saliency = spectral_residual(images)
  owner = draw_co_mixup(
    key,
    check_saliency(saliency, images.shape),
    group=group,
    grid=grid,
    concentration=concentration,
    border_cost=border_cost,
    diversity=diversity,
    threshold=threshold,
    input_prior=input_prior,
    sweeps=sweeps,
  )
  mixed = take_blocks(images, owner)
  return mixed, block_labels(labels, owner, num_classes=num_classes)
