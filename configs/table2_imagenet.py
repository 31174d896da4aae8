"""Table 2 of RandomMix, right half: ImageNet with ResNet-50.

  python -m launch.sweep --config=configs/table2_imagenet.py --workdir=W \
    --config.data.dir=D
  python -m launch.report W --cost

Each row is `imagenet_resnet50` by one method, three seeds (the paper ran one);
its header has the cost. D is the folder around a prepared `imagenet2012`, see
docs/imagenet.md. The report has the paper's numbers beside ours, and the time
of a step over that without mixing. The left half is `table2_tiny_imagenet`.

One row, of `:method=` random_mix, mixup, cutmix, resizemix, fmix, saliency_mix,
puzzle_mix, co_mixup, cutout or none:

  python -m launch.main --config=configs/table2_imagenet.py --workdir=W

`:smoke` is four steps of each with a narrow network, a minute of CPU a row; it
needs the data too.

The methods manifold_mixup, patchup_hard and patchup_soft mix states of the
network (docs/mixing.md).
"""

from typing import Any

from configs.common import METHODS, parse_arg, seeds
from configs.imagenet_resnet50 import get_config as get_recipe

# Top-1 and top-5 in per cent, and the time of training over that of none, which
# the paper gives once for both halves.
_PAPER = {
  'none': (76.37, 93.04, 1.00),
  'mixup': (77.42, 93.67, 1.00),
  'cutmix': (77.32, 93.79, 0.99),
  'fmix': (77.27, 93.62, 1.07),
  'resizemix': (77.83, 93.87, 0.99),
  'saliency_mix': (77.40, 93.69, 1.01),
  'puzzle_mix': (77.69, 93.94, 2.10),
  'random_mix': (77.88, 93.98, 1.01),
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
  """That of `imagenet_resnet50`."""
  config = get_recipe(arg)
  if parse_arg(arg, smoke=False, method=METHODS).smoke:
    config.model.width = 8
  return config


def sweep(add: Any, arg: str = '') -> None:
  """The rows of the right half."""
  for row in PAPER:
    for seed in seeds(arg):
      add(row, seed=seed)
