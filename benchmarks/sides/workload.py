"""What one training step of a benchmark works on, the same for every side.

Neither jax nor torch: both sides read it, and the weights both begin from lie
in one file.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)


@dataclasses.dataclass(frozen=True)
class Workload:
  """A net, its images and the steps of one call; what JSON can hold.

  Attributes:
    model: the block `config.model` without its dtype.
    classes: number of labels.
    side: images are `[side, side, 3]`.
    batch_size: images of a step.
    examples: images of the training set, all on the device.
    pad: of the crop; 0: photographs, which come cropped and mirrored.
    steps_per_dispatch: steps of one call of the device.
    calls: how many of those are timed as one.
    weights: the file that `write_weights` wrote.
  """

  model: dict[str, Any]
  classes: int
  side: int
  batch_size: int
  examples: int
  pad: int
  steps_per_dispatch: int
  calls: int
  weights: str = ''

  @property
  def steps(self) -> int:
    """Steps that are timed as one."""
    return self.steps_per_dispatch * self.calls

  def arrays(self) -> dict[str, np.ndarray]:
    """The training set: uint8 `[N, H, W, C]` and int32 `[N]`, random."""
    rng = np.random.default_rng(0)
    shape = (self.examples, self.side, self.side, 3)
    return {
      'image': rng.integers(0, 256, shape, np.uint8),
      'label': rng.integers(0, self.classes, self.examples, np.int32),
    }

  def first_batch(self) -> tuple[np.ndarray, np.ndarray]:
    """Images and soft labels for the comparison of the sides, float32.

    They are mixed already: 16 images `[16, H, W, C]`, labels `[16, K]`.
    """
    rng = np.random.default_rng(1)
    images = rng.standard_normal((16, self.side, self.side, 3), np.float32)
    labels = np.eye(self.classes, dtype=np.float32)[
      rng.integers(0, self.classes, 16)
    ]
    return images, 0.7 * labels + 0.3 * labels[::-1]

  def read_weights(self) -> dict[str, np.ndarray]:
    """The weights, by 'module/.../name' as flax has them."""
    with np.load(self.weights) as file:
      return dict(file)


def write_weights(
  path: pathlib.Path, shapes: Mapping[str, tuple[int, ...]]
) -> None:
  """Draws weights that train, no two layers alike, and stores them.

  Args:
    path: the file.
    shapes: by 'module/.../name'; kernels end in `in, out`.
  """
  rng = np.random.default_rng(2)
  weights = {}
  for name, shape in sorted(shapes.items()):
    drawn = rng.standard_normal(shape, np.float32)
    if len(shape) > 1:
      drawn *= math.sqrt(2 / math.prod(shape[:-1]))
    else:
      drawn = 0.1 * drawn + name.endswith('scale')
    weights[name] = drawn.astype(np.float32)
  np.savez(path, **weights)  # pyright: ignore[reportArgumentType]
