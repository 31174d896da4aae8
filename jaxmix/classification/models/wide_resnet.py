"""WideResNet: Zagoruyko and Komodakis, BMVC 2016."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxmix.classification.models import layers


class WideResNet(nn.Module):
  """WRN-depth-width: three stages; 28-10 has 36.5M parameters.

  Attributes:
    num_classes: number of logits.
    depth: number of layers, 6n + 4 for n blocks in each stage.
    width: how many times wider than a ResNet of 16, 32 and 64 channels.
    stem_stride: stride of the first 3x3 convolution.
    dtype: of the computation.
    ghost_batches: see `layers.norm`.
  """

  num_classes: int
  depth: int = 28
  width: int = 10
  stem_stride: int = 1
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

    `activation_hook` is called with activations 0 to 4: the input, and the
    outputs of the stem and of each stage.
    """
    hook = activation_hook or layers.no_hook
    x = hook(0, images.astype(self.dtype))
    x = hook(1, layers.conv(16, 3, self.stem_stride, self.dtype)(x))
    for stage in range(3):
      for block in range((self.depth - 4) // 6):
        stride = 2 if stage > 0 and block == 0 else 1
        features = 16 * self.width * 2**stage
        x = layers.PreActBlock(
          features, stride, self.dtype, self.ghost_batches
        )(x, train)
      x = hook(stage + 2, x)
    x = layers.norm_relu(x, train, self.dtype, self.ghost_batches)
    return layers.head(x, self.num_classes)
