"""Layers of the networks: convolution, BatchNorm, residual block, head."""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Maps `(k, activations)` to what replaces the activations number `k`, of the
# same shape and dtype: 0 is the input, 1 the output of the stem, 2 and more
# those of the stages.
ActivationHook = Callable[[int, jax.Array], jax.Array]


def no_hook(k: int, x: jax.Array) -> jax.Array:
  """Returns the activations as they are."""
  del k
  return x


def _init(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
  """Returns weights `[size, size, in, out]`: He et al., ICCV 2015, fan-out."""
  deviation = math.sqrt(2 / (shape[0] * shape[1] * shape[3]))
  # Drawn flat: XLA's CPU compiler is slow over random arrays of several axes.
  drawn = jax.random.normal(key, (math.prod(shape),), dtype)
  return (deviation * drawn).reshape(shape)


def conv(features: int, size: int, stride: int, dtype: Any) -> nn.Conv:
  """Returns a `size` x `size` convolution without bias, padded as in torch."""
  return nn.Conv(
    features,
    (size, size),
    strides=stride,
    padding=size // 2,
    use_bias=False,
    kernel_init=_init,
    dtype=dtype,
  )


def norm(
  x: jax.Array, train: bool, dtype: Any, ghost_batches: int
) -> jax.Array:
  """Applies BatchNorm (statistics in float32, momentum 0.1 in torch's terms).

  Args:
    x: `[B, H, W, C]`.
    train: whether to normalise by the batch.
    dtype: of the result.
    ghost_batches: equal parts of the batch, each of which is normalised by
      itself; the running statistics are the means of theirs.
  """
  if ghost_batches == 1 or not train:
    batch_norm = functools.partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)
    return batch_norm(use_running_average=not train, dtype=dtype)(x)
  return BatchNorm(ghost_batches, dtype)(x)


def norm_relu(
  x: jax.Array, train: bool, dtype: Any, ghost_batches: int
) -> jax.Array:
  """Applies BatchNorm, then ReLU: see `norm`."""
  return nn.relu(norm(x, train, dtype, ghost_batches))


class BatchNorm(nn.Module):
  """Ghost BatchNorm in training mode: equal parts of a batch, normalised apart.

  Its variables have the names and shapes of flax's BatchNorm, which is used in
  evaluation.
  """

  ghost_batches: int
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises `[B, H, W, C]`, each ghost batch by itself."""
    size = (x.shape[-1],)
    running = {
      'mean': self.variable('batch_stats', 'mean', jnp.zeros, size),
      'var': self.variable('batch_stats', 'var', jnp.ones, size),
    }
    scale = self.param('scale', nn.initializers.ones, size)
    bias = self.param('bias', nn.initializers.zeros, size)
    parts = x.reshape(self.ghost_batches, -1, *x.shape[1:]).astype(jnp.float32)
    axes = tuple(range(1, parts.ndim - 1))
    mean = jnp.mean(parts, axes, keepdims=True)
    # Both moments in one pass over the activations, as flax does.
    square = jnp.mean(jnp.square(parts), axes, keepdims=True)
    var = jnp.maximum(0.0, square - jnp.square(mean))
    if not self.is_initializing():
      for name, moment in (('mean', mean), ('var', var)):
        new = jnp.mean(moment.reshape(self.ghost_batches, -1), axis=0)
        running[name].value = 0.9 * running[name].value + 0.1 * new
    y = (parts - mean) * (jax.lax.rsqrt(var + 1e-5) * scale) + bias
    return y.reshape(x.shape).astype(self.dtype)


def head(x: jax.Array, num_classes: int) -> jax.Array:
  """Returns float32 logits: the mean over all pixels, then a linear layer."""
  x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
  return nn.Dense(num_classes)(x)


class PreActBlock(nn.Module):
  """Pre-activation residual block: BN-ReLU-conv twice, and the shortcut.

  He et al., ECCV 2016. The shortcut is the input itself, or where the shape
  changes a 1x1 convolution after the first BN-ReLU.
  """

  features: int
  stride: int
  dtype: Any
  ghost_batches: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps `[B, H, W, C]` to `[B, H / stride, W / stride, features]`."""
    active = norm_relu(x, train, self.dtype, self.ghost_batches)
    if x.shape[-1] != self.features or self.stride != 1:
      x = conv(self.features, 1, self.stride, self.dtype)(active)
    active = conv(self.features, 3, self.stride, self.dtype)(active)
    active = norm_relu(active, train, self.dtype, self.ghost_batches)
    return x + conv(self.features, 3, 1, self.dtype)(active)
