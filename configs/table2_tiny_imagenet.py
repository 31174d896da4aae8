"""Table 2 of RandomMix, left half: Tiny-ImageNet with PreAct-ResNet18.

  python -m launch.sweep --config=configs/table2_tiny_imagenet.py --workdir=W \
    --config.data.source=tiny-imagenet-200.zip
  python -m launch.report W --cost

Each row is `tiny_imagenet_preact` by one method, three seeds; its header has
the cost, and what the paper does not say of the network. The report has the
paper's numbers beside ours, and the time of a step over that without mixing.
The right half is `table2_imagenet`.

One row, of `:method=` random_mix, mixup, cutmix, resizemix, fmix, saliency_mix,
puzzle_mix, co_mixup, cutout or none:

  python -m launch.main --config=configs/table2_tiny_imagenet.py --workdir=W

`:smoke` is four steps of each with a narrow network; a row took 40 seconds of
CPU, most of them to read the prepared set.

The methods manifold_mixup, patchup_hard and patchup_soft mix states of the
network (docs/mixing.md).
"""

from typing import Any

from configs.common import METHODS, parse_arg, seeds
from configs.tiny_imagenet_preact import get_config as get_recipe

# Top-1 and top-5 in per cent, and the time of training over that of none, which
# the paper gives once for both halves.
_PAPER = {
  'none': (63.43, 83.05, 1.00),
  'mixup': (64.77, 84.05, 1.00),
  'cutmix': (67.72, 86.25, 0.99),
  'fmix': (66.18, 84.58, 1.07),
  'resizemix': (67.71, 86.65, 0.99),
  'saliency_mix': (65.90, 85.13, 1.01),
  'puzzle_mix': (66.65, 85.29, 2.10),
  'random_mix': (68.94, 86.83, 1.01),
}
PAPER = {
  f'method={method}': {
    'clean/top1': top1 / 100,
    'clean/top5': top5 / 100,
    'cost': cost,
  }
  for method, (top1, top5, cost) in _PAPER.items()
}
BASELINE = 'method=none'


def get_config(arg: str | None = None) -> Any:
  """That of `tiny_imagenet_preact`."""
  config = get_recipe(arg)
  if parse_arg(arg, smoke=False, method=METHODS).smoke:
    config.model.width = 8
  return config


def sweep(add: Any, arg: str = '') -> None:
  """The rows of the left half."""
  for row in PAPER:
    for seed in seeds(arg):
      add(row, seed=seed)
