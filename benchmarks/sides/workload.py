"""Workloads: network, images and batch size of a benchmarked training step.

This module imports neither jax nor torch, because the sides of both read it.
All sides start from the weights in one file.
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
  """A network, its images and the steps of one timed call; JSON values only.

  Attributes:
    model: `config.model` without its dtype.
    classes: number of classes.
    side: images are `[side, side, 3]`.
    batch_size: images per step.
    examples: size of the training set, all on the device.
    pad: padding of the random crop; 0 for JPEG images, which arrive cropped and
      mirrored.
    steps_per_dispatch: steps of one dispatch.
    calls: dispatches that are timed as one call.
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
    """Steps of one timed call."""
    return self.steps_per_dispatch * self.calls

  def arrays(self) -> dict[str, np.ndarray]:
    """Returns a random training set: uint8 `[N, H, W, C]` and int32 `[N]`."""
    rng = np.random.default_rng(0)
    shape = (self.examples, self.side, self.side, 3)
    return {
      'image': rng.integers(0, 256, shape, np.uint8),
      'label': rng.integers(0, self.classes, self.examples, np.int32),
    }

  def first_batch(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns images and soft labels to compare the sides with, float32.

    The labels are already mixed. 16 images `[16, H, W, C]`, labels `[16, K]`.
    """
    rng = np.random.default_rng(1)
    images = rng.standard_normal((16, self.side, self.side, 3), np.float32)
    labels = np.eye(self.classes, dtype=np.float32)[
      rng.integers(0, self.classes, 16)
    ]
    return images, 0.7 * labels + 0.3 * labels[::-1]

  def read_weights(self) -> dict[str, np.ndarray]:
    """Returns the weights by flax path, 'module/.../name'."""
    with np.load(self.weights) as file:
      return dict(file)


def write_weights(
  path: pathlib.Path, shapes: Mapping[str, tuple[int, ...]]
) -> None:
  """Writes random weights that can be trained, different in every layer.

  Args:
    path: the file to write.
    shapes: shapes by 'module/.../name'; kernels end in `in, out`.
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


PREACT = {'name': 'preact_resnet18', 'width': 64, 'stem_stride': 1}
WIDE = {'name': 'wide_resnet', 'depth': 28, 'width': 10, 'stem_stride': 1}
RESNET = {'name': 'resnet50', 'width': 64}
CIFAR: dict[str, Any] = {'classes': 100, 'side': 32, 'pad': 4}
IMAGENET: dict[str, Any] = {
  'classes': 1000,
  'side': 224,
  'pad': 0,
  'examples': 4096,
}

# Calls last from a third of a second to two seconds. On the GPU,
# PreAct-ResNet18 takes a whole epoch of 50,000 images and 176 more.
CPU = {
  'PreAct-ResNet18, batch 64': Workload(
    PREACT, **CIFAR, batch_size=64, examples=2048, steps_per_dispatch=1, calls=1
  ),
  'PreAct-ResNet18, batch 256': Workload(
    PREACT,
    **CIFAR,
    batch_size=256,
    examples=2048,
    steps_per_dispatch=1,
    calls=1,
  ),
}
GPU = {
  'PreAct-ResNet18, batch 256': Workload(
    PREACT,
    **CIFAR,
    batch_size=256,
    examples=50_000,
    steps_per_dispatch=28,
    calls=7,
  ),
  'WideResNet-28-10, batch 256': Workload(
    WIDE,
    **CIFAR,
    batch_size=256,
    examples=50_000,
    steps_per_dispatch=32,
    calls=1,
  ),
  'ResNet-50, batch 256': Workload(
    RESNET, **IMAGENET, batch_size=256, steps_per_dispatch=16, calls=1
  ),
}
LARGE = 'PreAct-ResNet18, batch 256'  # on a CPU, seconds per step
