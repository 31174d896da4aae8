"""One FMix mask on the host, written as the published code does it.

Ours, after the official law.
"""

import importlib.util
from collections.abc import Callable
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


def make(
  *, size: int, repeats: int
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
  """A side of `benchmarks.mix_ops`: masks of numpy and, if there, of scipy."""
  rng = np.random.default_rng(0)
  functions = {'numpy': numpy_fmix_mask}
  if importlib.util.find_spec('scipy'):
    functions['scipy'] = scipy_fmix_mask
  calls = {
    name: lambda f=function: [f(rng, size, size) for _ in range(repeats)]
    for name, function in functions.items()
  }
  return calls, {}
