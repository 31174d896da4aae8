"""Accuracy with a block of each image black.

RandomMix, section 3.2.1: "filling random occlusion blocks with zeros", and no
word on how many, how large and where. Our law: one square block whose side is a
share of the image's, anywhere inside with the same probability, black (0 before
the normalisation).
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
  """Makes the evaluator of `clean`, of images with a block of zeros.

  Args:
    predict: as in `clean.make`.
    examples: as in `clean.make`.
    batch_size: as in `clean.make`.
    mesh: as in `clean.make`.
    side: of the block, in sides of the image, 0 to 1.
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
  """Blackens a block of each image: always the same of the same image.

  Args:
    images: `[B, H, W, C]`.
    index: int `[B]`, each image's place in the split; decides where its block
      is, in every batch, run and process.
    side: of the block, in sides of the image, 0 to 1; rounded to pixels.

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

    place = jnp.arange(length) - jax.vmap(draw)(index)[:, None]
    inside.append((place >= 0) & (place < size))
  rows, columns = inside
  black = rows[:, :, None] & columns[:, None, :]
  return jnp.where(black[..., None], 0, images)
