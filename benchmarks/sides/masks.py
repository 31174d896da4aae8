"""FMix masks on the host, in numpy and scipy.

Reimplemented here, with the distribution of the published code.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np


def numpy_fmix_mask(
  rng: np.random.Generator, height: int, width: int
) -> np.ndarray:
  """Returns an FMix mask: half a spectrum, inverse FFT, argsort."""
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
  """Returns an FMix mask: scipy's float32 FFT, and a partition, not a sort.

  The fastest version on the host that we found.
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
  """Makes a side of `mix_ops`: masks by numpy and, if installed, by scipy."""
  rng = np.random.default_rng(0)
  functions = {'numpy': numpy_fmix_mask}
  if importlib.util.find_spec('scipy'):
    functions['scipy'] = scipy_fmix_mask
  calls = {
    name: lambda f=function: [f(rng, size, size) for _ in range(repeats)]
    for name, function in functions.items()
  }
  return calls, {}
