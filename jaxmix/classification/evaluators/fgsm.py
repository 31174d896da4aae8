"""Evaluator of accuracy under the fast gradient sign method.

Goodfellow et al., Explaining and harnessing adversarial examples, ICLR 2015:
`x + epsilon * sign(d loss / d x)`, one step, on the pixels: the normalisation
is a part of the attacked network.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxmix.classification.evaluators import clean


def make(
  predict: clean.Predict,
  examples: Mapping[str, np.ndarray],
  *,
  batch_size: int,
  mesh: Mesh,
  epsilon: float = 8 / 255,
) -> clean.Evaluate:
  """Makes the evaluator of `clean` for images under attack.

  Args:
    predict: as in `clean.make`, and differentiable; with running statistics.
    examples: as in `clean.make`.
    batch_size: as in `clean.make`.
    mesh: as in `clean.make`.
    epsilon: the largest change of a pixel, for pixels of 0 to 1.
  """

  def change(
    params: Any, model_state: Any, batch: Mapping[str, jax.Array]
  ) -> jax.Array:
    return attack(
      lambda images: predict(params, model_state, images),
      batch['image'],
      batch['label'],
      epsilon,
    )

  return clean.make(
    predict,
    examples,
    batch_size=batch_size,
    mesh=mesh,
    name='fgsm',
    change=change,
  )


def attack(
  logits: Any, images: jax.Array, labels: jax.Array, epsilon: float
) -> jax.Array:
  """Returns images with each pixel moved by `epsilon` to raise the loss.

  Args:
    logits: `images [B, H, W, C] -> logits [B, K]`, each of its own image.
    images: `[B, H, W, C]` of 0 to 255.
    labels: int `[B]`.
    epsilon: the change, for pixels of 0 to 1.

  Returns:
    float32 `[B, H, W, C]`, clipped to 0 to 255. A pixel on which the loss does
    not depend is unchanged.

  >>> def logits(images):
  ...   mean = images.mean((1, 2, 3)) / 255
  ...   return jnp.stack([mean, -mean], 1)
  >>> images = jnp.full((1, 1, 1, 1), 100.0)
  >>> attack(logits, images, jnp.array([0]), 8 / 255).item()  # darker: less 0
  92.0
  """

  def loss(images: jax.Array) -> jax.Array:
    log_probs = jax.nn.log_softmax(logits(images).astype(jnp.float32))
    # The gradient of a sum is that of each image.
    return -jnp.sum(jnp.take_along_axis(log_probs, labels[:, None], axis=1))

  images = images.astype(jnp.float32)
  moved = images + 255 * epsilon * jnp.sign(jax.grad(loss)(images))
  return jnp.clip(moved, 0, 255)
