"""Co-Mixup: Kim et al., ICLR 2021."""

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmix._src import gather
from jaxmix._src.blocks import fractions
from jaxmix._src.checks import (
  check_grid,
  check_images,
  check_key,
  check_layout,
  check_number,
  check_saliency,
  check_whole,
  is_concrete,
)
from jaxmix._src.guided.potts import label_grid
from jaxmix._src.guided.saliency import spectral_residual, zero_if_undefined
from jaxmix._src.labels import dense_labels, label_dtype
from jaxmix._src.settings import in_any_setting


@in_any_setting
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
  """Draws a Co-Mixup: the source image of each block of each mixed image.

  The batch is divided into groups of m consecutive images; the m images of a
  group give m mixed images. s_k(b) is the fraction of the saliency of image k
  in block b, and N_ok the number of the n^2 blocks that output o takes from
  image k. As in the published code, one output after the other minimises

      sum_b (-s_k(b) - input_prior / n^2 * log p_k)
      + border_cost / n^2 * borders
      + sum_k 2 diversity / n^2 * M_ok [M_ok > threshold * n^2] N_ok,

  where k is the image of block b, p ~ Dirichlet(concentration) and
  M_ok = sum_(o' != o) N_o'k, starting from random blocks. The last term is the
  paper's modular approximation of its diversity term (section 4). The defaults
  are those of the official runs on CIFAR-100, except for m, which is 20 there.

  Args:
    key: random key.
    saliency: `[B, H, W]`, the saliency of each image before mixing; the paper
      uses `jaxmix.gradient_saliency`. A map that is not finite counts as one
      without saliency.
    group: upper bound of m, which is the largest divisor of B up to it.
    grid: n, blocks per side, 2 or more; must divide H and W.
    concentration: parameter of the Dirichlet distribution, a whole number of 1
      or more; larger values make the p_k more equal.
    border_cost: cost of two neighbouring blocks from different images.
    diversity: cost of images that are in many outputs.
    threshold: number of blocks that an image may have in the other outputs at
      no cost, as a fraction of n^2.
    input_prior: weight of p.
    sweeps: how often each output is solved.

  Returns:
    int32 `[B, n, n]`: the sample that each block is taken from, at the same
    position.

  Raises:
    ValueError, TypeError: an argument is out of range or unknown.

  >>> draw = jax.jit(draw_co_mixup)
  >>> draw(jax.random.key(0), jnp.ones((8, 8, 8))).shape
  (8, 4, 4)
  """
  check_key(key)
  saliency = zero_if_undefined(check_saliency(saliency))
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
      f'group={group!r}: a batch of {batch} cannot be divided into equal '
      f'groups of 2 to {group}; use a larger group or another batch size.'
    )
  groups, blocks = batch // size, grid**2
  prior_key, start_key = jax.random.split(key)
  # Dirichlet variables are gamma variables divided by their sum, which does not
  # change the minimum. With a whole-number parameter, a gamma variable is a sum
  # of exponential ones.
  drawn = jax.random.exponential(
    prior_key, (concentration * batch,), jnp.float32
  )
  log_p = jnp.log(drawn.reshape(concentration, groups, size).sum(0))
  fraction = fractions(saliency, grid).reshape(groups, size, grid, grid)
  cost = -fraction - input_prior / blocks * log_p[:, :, None, None]
  start = jax.random.randint(start_key, (batch * blocks,), 0, size, jnp.int32)
  owner = solve(
    jnp.moveaxis(cost, 1, -1),
    start.reshape(groups, size, grid, grid),
    border=border_cost / blocks,
    weight=2 * diversity / blocks,
    limit=threshold * blocks,
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
  """Optimises one output after the other, given the rest, `sweeps` times.

  Args:
    cost: float32 `[G, n, n, m]`, the cost of each of m images at each block.
    owner: int32 `[G, outputs, n, n]`, the starting point.
    border: cost of two neighbouring blocks from different images.
    weight: cost of a block for each block of its image in other outputs.
    limit: number of these blocks up to which there is no cost.
    sweeps: 1 or more.

  Returns:
    int32 `[G, outputs, n, n]`.
  """
  outputs = owner.shape[1]
  # Depends on the costs, so that shard_map gives it the same type.
  owner = owner.astype(jnp.int32) + (0 * cost[:, None, :, :, 0]).astype(
    jnp.int32
  )

  def improve(step: jax.Array, owner: jax.Array) -> jax.Array:
    output = step % outputs
    others = _overuse(owner, cost.shape[-1], output, limit)
    labels = label_grid(
      cost + weight * others[:, None, None, :], border, owner[:, output]
    )
    return owner.at[:, output].set(labels)

  return jax.lax.fori_loop(0, sweeps * outputs, improve, owner)


def _overuse(
  owner: jax.Array,
  images: int,
  output: int | jax.Array,
  limit: float | jax.Array,
) -> jax.Array:
  """Counts the blocks of each image in other outputs; 0 up to the limit.

  Returns:
    float32 `[G, m]`.
  """
  count = jnp.sum(jax.nn.one_hot(owner, images, dtype=jnp.float32), axis=(2, 3))
  others = jnp.sum(count, axis=1) - count[:, output]
  return jnp.where(others > limit, others, 0)


@in_any_setting
def take_blocks(images: ArrayLike, owner: ArrayLike) -> jax.Array:
  """Assembles images from blocks; applies a draw of `jaxmix.draw_co_mixup`.

  Args:
    images: `[B, H, W, C]`, of any dtype.
    owner: int32 `[B, n, n]`: the sample of each block; `n` must divide H and W.

  Returns:
    The images in their dtype; every pixel is copied.

  Raises:
    ValueError: `owner` is not for images of this shape.

  >>> images = jnp.array([1, 2]).reshape(2, 1, 1, 1) * jnp.ones((2, 2, 2, 1))
  >>> take_blocks(images, jnp.array([[[0, 1], [1, 1]]] * 2))[0, ..., 0].tolist()
  [[1.0, 2.0], [2.0, 2.0]]
  """
  images, owner = check_images(images, any_dtype=True), jnp.asarray(owner)
  check_owner(owner, len(images))
  check_grid('blocks of owner', owner.shape[1], images.shape)
  return gather.take_blocks(images, owner)


@in_any_setting
def block_labels(
  labels: ArrayLike,
  owner: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
  where: ArrayLike | None = None,
) -> jax.Array:
  """Mixes the labels of blocks, weighted by their area.

  Args:
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    owner: int32 `[B, n, n]`, as for `jaxmix.take_blocks`.
    num_classes: `K`, for integer labels.
    label_smoothing: see `jaxmix.mix_labels`.
    where: bool `[B]`, the samples whose label counts, see `jaxmix.mix_labels`.
      A row adds up to the area of the blocks whose label counts.

  Returns:
    `[B, K]`, in the dtype of floating-point `labels`, else float32. A traced
    integer label outside `[0, K)` gives NaN.

  Raises:
    ValueError, TypeError: labels of another batch size, dtype or range.

  >>> owner = jnp.array([[[0, 1], [1, 1]], [[1, 1], [1, 1]]])
  >>> block_labels(jnp.array([0, 2]), owner, num_classes=3).tolist()
  [[0.25, 0.0, 0.75], [0.0, 0.0, 1.0]]
  """
  owner = jnp.asarray(owner)
  dense = dense_labels(
    'labels', labels, len(owner), num_classes, label_smoothing, where=where
  )
  check_owner(owner, len(dense))
  mixed = jnp.mean(dense[owner.reshape(len(owner), -1)], axis=1)
  return mixed.astype(label_dtype(labels))


def check_owner(owner: jax.Array, batch: int) -> None:
  """Raises ValueError unless `owner` is `[batch, n, n]`, each in [0, batch)."""
  shape = owner.shape
  if len(shape) != 3 or shape[0] != batch or shape[1] != shape[2]:
    raise ValueError(
      f'owner must have shape [{batch}, n, n] for these {batch} images; got '
      f'{list(shape)}.'
    )
  if not jnp.issubdtype(owner.dtype, jnp.integer):
    raise ValueError(f'owner must be integers; got {owner.dtype}.')
  if is_concrete(owner) and owner.size:
    low, high = int(owner.min()), int(owner.max())
    if low < 0 or high >= batch:
      raise ValueError(
        f'owner must lie in [0, {batch}) for a batch of {batch}; got values '
        f'from {low} to {high}.'
      )


def co_mixup(
  key: jax.Array,
  images: ArrayLike,
  labels: ArrayLike,
  *,
  num_classes: int | None = None,
  label_smoothing: float = 0.0,
  where: ArrayLike | None = None,
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
  """Co-Mixup: each image is assembled from the salient blocks of several.

  Args:
    key: random key.
    images: `[B, H, W, C]`, floating point or uint8.
    labels: integers `[B]` (with `num_classes`) or dense `[B, K]`.
    num_classes: number of classes `K`; required for integer labels.
    label_smoothing: see `jaxmix.random_mix`.
    where: see `jaxmix.random_mix`.
    saliency: `[B, H, W]`; the paper uses `jaxmix.gradient_saliency`. None:
      `jaxmix.spectral_residual`, which needs no network.
    group: see `jaxmix.draw_co_mixup`.
    grid: see `jaxmix.draw_co_mixup`.
    concentration: see `jaxmix.draw_co_mixup`.
    border_cost: see `jaxmix.draw_co_mixup`.
    diversity: see `jaxmix.draw_co_mixup`.
    threshold: see `jaxmix.draw_co_mixup`.
    input_prior: see `jaxmix.draw_co_mixup`.
    sweeps: see `jaxmix.draw_co_mixup`.

  Returns:
    `(images, labels)`: the mixed images in their dtype, labels `[B, K]`.

  Raises:
    ValueError, TypeError: an argument is out of range or of a wrong type.

  >>> images, labels = jnp.ones((4, 8, 8, 3)), jnp.array([0, 1, 2, 0])
  >>> mix = jax.jit(co_mixup, static_argnames='num_classes')
  >>> _, mixed = mix(jax.random.key(0), images, labels, num_classes=3)
  >>> bool(jnp.allclose(mixed.sum(1), 1))
  True
  """
  images = check_images(images)
  check_layout(images.shape)
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
  return take_blocks(images, owner), block_labels(
    labels,
    owner,
    num_classes=num_classes,
    label_smoothing=label_smoothing,
    where=where,
  )
