"""Table 5 of RandomMix: what the weight of Mixup does to robustness.

  python -m launch.sweep --config=configs/table5_weights.py --workdir=W
  python -m launch.report W

The last row of table 4 with the weights [n, 1, 1, 1], three seeds each;
`:smoke` and `:small` as there. One of them, with `:mixup=n` (or `:method=`, one
of random_mix, mixup, cutmix, resizemix, fmix, saliency_mix, puzzle_mix,
co_mixup, cutout, none):

  python -m launch.main --config=configs/table5_weights.py --workdir=W

The methods manifold_mixup, patchup_hard and patchup_soft mix states of the
network (docs/mixing.md).

The paper's errors in per cent:

  | n | clean | FGSM  | corruption | occlusion |
  | 1 | 15.35 | 75.81 | 45.84      | 26.73     |
  | 2 | 15.65 | 66.64 | 42.45      | 29.55     |
  | 3 | 15.51 | 70.23 | 42.16      | 28.12     |
  | 4 | 15.16 | 63.78 | 42.17      | 27.72     |
"""

from typing import Any

from configs.common import seeds
from configs.table4_robustness import NOTE, get_config, shares

__all__ = ['NOTE', 'PAPER', 'get_config', 'sweep']

PAPER = {
  'mixup=1.0': shares(15.35, 75.81, 45.84, 26.73),
  'mixup=2.0': shares(15.65, 66.64, 42.45, 29.55),
  'mixup=3.0': shares(15.51, 70.23, 42.16, 28.12),
  'mixup=4.0': shares(15.16, 63.78, 42.17, 27.72),
}


def sweep(add: Any, arg: str = '') -> None:
  """The rows of table 5."""
  for row in PAPER:
    for seed in seeds(arg):
      add(row, seed=seed)
