"""Other sides of `benchmarks.mix_ops`: torch, timm and torchvision.

Does not import jax. Images are channels_last, where torch is fastest. timm and
torchvision return soft labels; our torch modes mix only the images.
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

CallsAndFacts = tuple[dict[str, Callable[[], Any]], dict[str, Any]]


def make_torch(*, shape: list[int], repeats: int, device: str) -> CallsAndFacts:
  """Makes a side with a copy, the four modes and RandomMix in torch.

  Args:
    shape: shape of the images, `[B, H, W, C]`.
    repeats: batches per call.
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


def make_timm(*, shape: list[int], repeats: int, device: str) -> CallsAndFacts:
  """Makes a side with timm's Mixup: in place, with the reversed batch."""
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


def make_torchvision(
  *, shape: list[int], repeats: int, device: str
) -> CallsAndFacts:
  """Makes a side with torchvision's modes, which mix with the rolled batch."""
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
  """Returns calls of `repeats` batches, with the faster of one and all threads.

  The threads of torch wait for each other after every operation. For a small
  batch, or if another process uses a core, one thread may be much faster.
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

    seconds = {
      threads: statistics.median(call(threads, 1) for _ in range(9))
      for threads in (machine.cores(), 1)
    }
    best = min(seconds, key=lambda threads: seconds[threads])
    return functools.partial(call, best)

  return {name: make(function) for name, function in functions.items()}
