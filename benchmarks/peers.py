"""What others do, written as the published codes do it: numpy and torch.

These are ours, after the official laws: no library on PyPI has ResizeMix, and
timm and torchvision mix by one lambda and box as these do.
"""

from typing import Any

import numpy as np


def numpy_fmix_mask(
  rng: np.random.Generator, height: int, width: int
) -> np.ndarray:
  """One FMix mask the numpy way: half a spectrum, inverse FFT, argsort."""
  frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
  amplitude = np.maximum(frequency, 1 / max(height, width)) ** -3.0
  noise = rng.standard_normal((2, *frequency.shape))
  field = np.fft.irfftn(
    amplitude * (noise[0] + 1j * noise[1]), (height, width), axes=(0, 1)
  )
  kept = int(rng.uniform() * field.size)
  mask = np.zeros(field.size, np.float32)
  mask[field.ravel().argsort()[::-1][:kept]] = 1
  return mask.reshape(height, width)


def scipy_fmix_mask(
  rng: np.random.Generator, height: int, width: int
) -> np.ndarray:
  """The same with scipy's transform in float32, and a partition for the sort.

  As fast as we could make it on the host.
  """
  import scipy.fft

  frequency = np.hypot(
    np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
  ).astype(np.float32)
  amplitude = np.maximum(frequency, 1 / max(height, width)) ** -3.0
  noise = rng.standard_normal((2, *frequency.shape), dtype=np.float32)
  spectrum = amplitude * (noise[0] + np.complex64(1j) * noise[1])
  field: Any = scipy.fft.irfftn(spectrum, (height, width))
  kept = int(rng.uniform() * field.size)
  mask = np.zeros(field.size, np.float32)
  mask[np.argpartition(field.ravel(), -kept)[field.size - kept :]] = 1
  return mask.reshape(height, width)


def torch_modes(images: Any) -> dict[str, Any]:
  """The four modes in torch on the CPU, for images `[B, C, H, W]`."""
  import torch  # pyright: ignore[reportMissingImports]

  rng = np.random.default_rng(0)
  batch, _, height, width = images.shape

  def mixup() -> Any:
    lam, order = rng.uniform(), torch.randperm(batch)
    return lam * images + (1 - lam) * images[order]

  def cutmix() -> Any:
    order = torch.randperm(batch)
    side = np.sqrt(1 - rng.uniform())
    half_h, half_w = int(height * side) // 2, int(width * side) // 2
    row, column = rng.integers(height), rng.integers(width)
    rows = slice(max(row - half_h, 0), min(row + half_h, height))
    columns = slice(max(column - half_w, 0), min(column + half_w, width))
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[order][:, :, rows, columns]
    return mixed

  def resizemix() -> Any:
    order = torch.randperm(batch)
    scale = rng.uniform(0.1, 0.8)
    small = torch.nn.functional.interpolate(images, scale_factor=scale)
    size_h, size_w = small.shape[2:]
    mixed = images.clone()
    for i in range(batch):
      row = int(np.clip(rng.integers(height) - size_h // 2, 0, height - size_h))
      column = int(
        np.clip(rng.integers(width) - size_w // 2, 0, width - size_w)
      )
      mixed[i, :, row : row + size_h, column : column + size_w] = small[
        order[i]
      ]
    return mixed

  def fmix() -> Any:
    order = torch.randperm(batch)
    mask = torch.from_numpy(numpy_fmix_mask(rng, height, width))
    return mask * images + (1 - mask) * images[order]

  return {
    'mixup': mixup,
    'cutmix': cutmix,
    'resizemix': resizemix,
    'fmix': fmix,
  }
