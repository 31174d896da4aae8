"""ResNet-50: He et al., CVPR 2016, in the form called v1.5."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxmix.classification.models import layers

_BLOCKS = (3, 4, 6, 3)
_EXPANSION = 4


class ResNet50(nn.Module):
  """Four stages of bottlenecks for 224x224 images, 25.56M parameters.

  In v1.5 the 3x3 convolution of a bottleneck has the stride, in the paper the
  1x1 before it. The last scale of a block begins at 1, as in torchvision, not
  at 0.

  Attributes:
    num_classes: number of logits.
    width: channels of the stem; the last stage has 32 times as many.
    dtype: of the computation.
    ghost_batches: see `layers.norm`.
  """

  num_classes: int
  width: int = 64
  dtype: Any = jnp.float32
  ghost_batches: int = 1

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    *,
    train: bool,
    activation_hook: layers.ActivationHook | None = None,
  ) -> jax.Array:
    """Maps images `[B, H, W, C]` to float32 logits `[B, num_classes]`.

    `activation_hook` is called with activations 0 to 5: the input, and the
    outputs of the stem and of each stage.
    """
    hook = activation_hook or layers.no_hook
    x = hook(0, images.astype(self.dtype))
    x = layers.conv(self.width, 7, 2, self.dtype)(x)
    x = layers.norm_relu(x, train, self.dtype, self.ghost_batches)
    padding: Any = ((1, 1), (1, 1))  # flax declares str
    x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=padding)
    x = hook(1, x)
    for stage, blocks in enumerate(_BLOCKS):
      for block in range(blocks):
        stride = 2 if stage > 0 and block == 0 else 1
        features = self.width * 2**stage
        x = Bottleneck(features, stride, self.dtype, self.ghost_batches)(
          x, train
        )
      x = hook(stage + 2, x)
    return layers.head(x, self.num_classes)


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolutions, the last to four times the features.

  The shortcut is the input itself, or a 1x1 convolution with BatchNorm where
  the shape changes.
  """

  features: int
  stride: int
  dtype: Any
  ghost_batches: int

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Maps `[B, H, W, C]` to `[B, H / stride, W / stride, 4 * features]`."""
    out = _EXPANSION * self.features
    y = layers.conv(self.features, 1, 1, self.dtype)(x)
    y = layers.norm_relu(y, train, self.dtype, self.ghost_batches)
    y = layers.conv(self.features, 3, self.stride, self.dtype)(y)
    y = layers.norm_relu(y, train, self.dtype, self.ghost_batches)
    y = layers.conv(out, 1, 1, self.dtype)(y)
    y = layers.norm(y, train, self.dtype, self.ghost_batches)
    if x.shape[-1] != out or self.stride != 1:
      x = layers.conv(out, 1, self.stride, self.dtype)(x)
      x = layers.norm(x, train, self.dtype, self.ghost_batches)
    return nn.relu(x + y)
