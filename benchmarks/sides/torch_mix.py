"""Mixing modes in torch, on any device, optimised.

Reimplemented here with the published distributions: no library on PyPI has
ResizeMix or FMix. timm and torchvision also use one lambda and box per batch.
Draws per batch happen on the host, so that nothing waits for the device.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

from benchmarks.sides.masks import numpy_fmix_mask

# Maps images `[B, C, H, W]`, unchanged, to (mixed, lambda, partner `[B]`).
Mixer = Callable[[Any], tuple[Any, float, Any]]


def modes(rng: np.random.Generator) -> dict[str, Mixer]:
  """Returns the modes by name; all draw from `rng`."""

  def partner(images: Any) -> Any:
    return torch.randperm(len(images), device=images.device)

  def mixup(images: Any) -> tuple[Any, float, Any]:
    order, lam = partner(images), rng.uniform()
    return torch.lerp(images[order], images, lam), lam, order

  def cutmix(images: Any) -> tuple[Any, float, Any]:
    order = partner(images)
    height, width = images.shape[2:]
    side = np.sqrt(1 - rng.uniform())
    half_h, half_w = int(height * side) // 2, int(width * side) // 2
    row, column = rng.integers(height), rng.integers(width)
    rows = slice(max(row - half_h, 0), min(row + half_h, height))
    columns = slice(max(column - half_w, 0), min(column + half_w, width))
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[:, :, rows, columns][order]
    size = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - size / (height * width), order

  def resizemix(images: Any) -> tuple[Any, float, Any]:
    order = partner(images)
    count, _, height, width = images.shape
    small = F.interpolate(images, scale_factor=rng.uniform(0.1, 0.8))[order]
    size = small.shape[2:]
    starts = [
      np.clip(rng.integers(0, full, count) - part // 2, 0, full - part)
      for full, part in zip((height, width), size, strict=True)
    ]
    mixed = images.clone()
    rows, columns = (
      torch.from_numpy(start[:, None] + np.arange(part)).to(
        images.device, non_blocking=True
      )
      for start, part in zip(starts, size, strict=True)
    )
    sample = torch.arange(count, device=images.device)[:, None, None]
    # Writes in place through a view [B, H, W, C].
    mixed.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]] = (
      small.permute(0, 2, 3, 1)
    )
    return mixed, 1 - size[0] * size[1] / (height * width), order

  def fmix(images: Any) -> tuple[Any, float, Any]:
    order = partner(images)
    drawn = torch.from_numpy(numpy_fmix_mask(rng, *images.shape[2:]))
    mask = drawn.to(images.device, non_blocking=True).bool()
    return torch.where(mask, images, images[order]), float(drawn.mean()), order

  return {
    'mixup': mixup,
    'cutmix': cutmix,
    'resizemix': resizemix,
    'fmix': fmix,
  }


def random_mix(rng: np.random.Generator) -> Mixer:
  """Returns RandomMix with equal weights."""
  choices = list(modes(rng).values())
  return lambda images: choices[rng.integers(len(choices))](images)
