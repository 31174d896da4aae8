"""The modes of torch, timm and torchvision as sides of `benchmarks.mix_ops`.

No jax here. Images are channels_last, in which torch is fastest. Labels become
dense where the library does that; our own torch modes mix the images alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from benchmarks import machine, torch_mix

CLASSES = 100

Made = tuple[dict[str, Callable[[], Any]], dict[str, Any]]


def make_torch(*, shape: list[int], repeats: int, device: str) -> Made:
  """A copy, the four modes and RandomMix, by `benchmarks.torch_mix`.

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
    name: _repeat(lambda f=function: f(images), repeats, device)
    for name, function in functions.items()
  }
  return calls, {'torch': torch.__version__}


def make_timm(*, shape: list[int], repeats: int, device: str) -> Made:
  """timm's Mixup: mixes a batch with itself reversed, in place."""
  import timm  # pyright: ignore[reportMissingImports]
  from timm.data import Mixup  # pyright: ignore[reportMissingImports]

  images, labels = _batch(shape, device)
  modes = {'mixup': (1.0, 0.0), 'cutmix': (0.0, 1.0), 'both': (1.0, 1.0)}
  calls = {}
  for name, (mixup, cutmix) in modes.items():
    mix = Mixup(mixup, cutmix, label_smoothing=0, num_classes=CLASSES)
    calls[name] = _repeat(lambda m=mix: m(images, labels), repeats, device)
  return calls, {'timm': timm.__version__, 'torch': torch.__version__}


def make_torchvision(*, shape: list[int], repeats: int, device: str) -> Made:
  """torchvision's MixUp and CutMix: mix with the batch rolled by one."""
  import torchvision  # pyright: ignore[reportMissingImports]
  from torchvision.transforms import (  # pyright: ignore[reportMissingImports]
    v2,
  )

  images, labels = _batch(shape, device)
  calls = {}
  for name, mix in (('mixup', v2.MixUp), ('cutmix', v2.CutMix)):
    mix = mix(num_classes=CLASSES)
    calls[name] = _repeat(lambda m=mix: m(images, labels), repeats, device)
  version = torchvision.__version__
  return calls, {'torchvision': version, 'torch': torch.__version__}


def _batch(shape: list[int], device: str) -> tuple[Any, Any]:
  torch.set_num_threads(machine.cores())
  images = torch.rand(shape, device=device).permute(0, 3, 1, 2)
  return images, torch.arange(shape[0], device=device) % CLASSES


def _repeat(
  function: Callable[[], Any], repeats: int, device: str
) -> Callable[[], Any]:
  def call():
    for _ in range(repeats):
      function()
    if device == 'cuda':
      torch.cuda.synchronize()

  return call
