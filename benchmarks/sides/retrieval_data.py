"""Random features with COCO's shapes; imports neither jax nor torch."""

import numpy as np

COCO_IMAGES = 82_783
CAPTIONS, TEXT_DIM, IMAGE_DIM = 5, 512, 2048


def features(images: int) -> dict[str, np.ndarray]:
  """Returns random arrays in the form of `training_set.training_arrays`."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    out = np.empty(shape, np.float16)
    for start in range(0, len(out), 1000):
      block = out[start : start + 1000]
      block[:] = rng.standard_normal(block.shape, dtype=np.float32)
    return out

  return {
    'image': np.abs(normal(images, IMAGE_DIM)),
    'image_id': np.arange(images, dtype=np.int32),
    'text': normal(images, CAPTIONS, TEXT_DIM),
    'caption': np.arange(CAPTIONS * images, dtype=np.int32).reshape(-1, 5),
    'cdf': np.tile(np.arange(1, 6, dtype=np.float32) / 5, (images, 1)),
  }
