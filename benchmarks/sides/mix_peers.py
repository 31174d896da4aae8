"""The modes of torch, timm and torchvision as sides of `benchmarks.mix_ops`.

No jax here. Images are channels_last, in which torch is fastest. Labels become
dense where the library does that; our own torch modes mix the images alone.
"""

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from benchmarks.harness import machine
from benchmarks.sides import torch_mix

CLASSES = 100

Made = tuple[dict[str, Callable[[], Any]], dict[str, Any]]


def make_torch(*, shape: list[int], repeats: int, device: str) -> Made:
  """A copy, the four modes and RandomMix, by `benchmarks.sides.torch_mix`.

  Args:
    shape: of the images, `[B, H, W, C]`.
    repeats: batches of one call.
    device: 'cpu' or 'cuda'.
  """
  images, _ = _batch(shape, device)
  functions: dict[str, Any] = {'copy': torch.clone}
  functions |= torch_mix.modes(np.random.default_rng(0))
  functions['random_mix'] = torch_mix.random_mix(np.random.default_rng(1))
  calls = {
    name: functools.partial(function, images)
    for name, function in functions.items()
  }
  return _calls(calls, repeats), {'torch': torch.__version__}


def make_timm(*, shape: list[int], repeats: int, device: str) -> Made:
  """Timm's Mixup: mixes a batch with itself reversed, in place."""
  import timm  # pyright: ignore[reportMissingImports]
  from timm.data import Mixup  # pyright: ignore[reportMissingImports]

  images, labels = _batch(shape, device)
  modes = {'mixup': (1.0, 0.0), 'cutmix': (0.0, 1.0), 'both': (1.0, 1.0)}
  calls = {}
  for name, (mixup, cutmix) in modes.items():
    mix = Mixup(mixup, cutmix, label_smoothing=0, num_classes=CLASSES)
    calls[name] = functools.partial(mix, images, labels)
  return _calls(calls, repeats), {
    'timm': timm.__version__,
    'torch': torch.__version__,
  }


def make_torchvision(*, shape: list[int], repeats: int, device: str) -> Made:
  """Torchvision's MixUp and CutMix: mix with the batch rolled by one."""
  import torchvision  # pyright: ignore[reportMissingImports]
  from torchvision.transforms import (  # pyright: ignore[reportMissingImports]
    v2,
  )

  images, labels = _batch(shape, device)
  calls = {}
  for name, mix in (('mixup', v2.MixUp), ('cutmix', v2.CutMix)):
    calls[name] = functools.partial(mix(num_classes=CLASSES), images, labels)
  version = torchvision.__version__
  return _calls(calls, repeats), {
    'torchvision': version,
    'torch': torch.__version__,
  }


def _batch(shape: list[int], device: str) -> tuple[Any, Any]:
  images = torch.rand(shape, device=device).permute(0, 3, 1, 2)
  return images, torch.arange(shape[0], device=device) % CLASSES


def _calls(functions: Mapping[str, Callable[[], Any]], repeats: int) -> Any:
  """Calls of so many batches; on a CPU with one thread or all, what is best.

  The threads of torch wait for each other after every operation: over a small
  batch, or where another process wants a core, one alone may be far quicker.
  """

  def make(function: Callable[[], Any]) -> Callable[[], Any]:
    def call(threads: int, repeats: int = repeats) -> float:
      torch.set_num_threads(threads)
      start = time.perf_counter()
      for _ in range(repeats):
        function()
      if torch.cuda.is_available():
        torch.cuda.synchronize()
      return time.perf_counter() - start

    found = {
      threads: statistics.median(call(threads, 1) for _ in range(9))
      for threads in (machine.cores(), 1)
    }
    best = min(found, key=lambda threads: found[threads])
    return functools.partial(call, best)

  return {name: make(function) for name, function in functions.items()}
