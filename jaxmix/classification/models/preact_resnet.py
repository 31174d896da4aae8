"""PreAct-ResNet18: He et al., ECCV 2016, in the form used for small images."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxmix.classification.models import layers


class PreActResNet18(nn.Module):
  """Four stages of two pre-activation blocks, 11.17M parameters at width 64.

  Attributes:
    num_classes: number of logits.
    width: channels of the first stage; each later stage has twice as many.
    stem_stride: stride of the first 3x3 convolution; 2 quarters the cost of
      64x64 images.
    dtype: of the computation.
    ghost_batches: see `layers.norm`.
  """

  num_classes: int
  width: int = 64
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

    `activation_hook` is called with activations 0 to 5: the input, and the
    outputs of the stem and of each stage.
    """
    hook = activation_hook or layers.no_hook
    x = hook(0, images.astype(self.dtype))
    x = hook(1, layers.conv(self.width, 3, self.stem_stride, self.dtype)(x))
    for stage in range(4):
      for block in range(2):
        stride = 2 if stage > 0 and block == 0 else 1
        features = self.width * 2**stage
        x = layers.PreActBlock(
          features, stride, self.dtype, self.ghost_batches
        )(x, train)
      x = hook(stage + 2, x)
    x = layers.norm_relu(x, train, self.dtype, self.ghost_batches)
    return layers.head(x, self.num_classes)
