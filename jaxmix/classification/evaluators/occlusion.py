"""Evaluator of accuracy with a black block in each image.

RandomMix, section 3.2.1: "filling random occlusion blocks with zeros"; their
number, size and position are not given. Here: one square block whose side is a
fraction of the image's, uniform over all positions inside, black (0 before the
normalisation).
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
  side: float = 0.5,
) -> clean.Evaluate:
  """Makes the evaluator of `clean` for images with a block of zeros.

  Args:
    predict: as in `clean.make`.
    examples: as in `clean.make`.
    batch_size: as in `clean.make`.
    mesh: as in `clean.make`.
    side: of the block, as a fraction of the image's side.
  """

  def change(
    params: Any, model_state: Any, batch: Mapping[str, jax.Array]
  ) -> jax.Array:
    del params, model_state
    return occlude(batch['image'], batch['index'], side)

  return clean.make(
    predict,
    examples,
    batch_size=batch_size,
    mesh=mesh,
    name='occlusion',
    change=change,
  )


def occlude(images: jax.Array, index: jax.Array, side: float) -> jax.Array:
  """Returns images with a black block, always the same for the same index.

  Args:
    images: `[B, H, W, C]`.
    index: int `[B]`, each image's position in the split, which determines its
      block in every batch, run and process.
    side: of the block, as a fraction of the image's side; rounded to pixels.

  >>> image = occlude(jnp.ones((1, 4, 4, 1)), jnp.array([7]), 0.5)
  >>> int(image.sum())  # a quarter is black
  12
  """
  inside = []
  for axis, length in enumerate(images.shape[1:3]):
    size = round(side * length)
    root = jax.random.key(axis)

    def draw(i: jax.Array, root=root, free=length - size) -> jax.Array:
      return jax.random.randint(jax.random.fold_in(root, i), (), 0, free + 1)

    position = jnp.arange(length) - jax.vmap(draw)(index)[:, None]
    inside.append((position >= 0) & (position < size))
  rows, columns = inside
  black = rows[:, :, None] & columns[:, None, :]
  return jnp.where(black[..., None], 0, images)
