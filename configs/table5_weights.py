"""Table 5 of RandomMix: robustness by the weight of Mixup.

  python -m launch.sweep --config=configs/table5_weights.py --workdir=W \
    --config.data.source=cifar-100-binary.tar.gz
  python -m launch.report W

trains RandomMix with the weights [n, 1, 1, 1], three seeds each, and prints the
paper's numbers beside ours. The config is that of table4_robustness.py with its
`:small`, `:smoke` and `:method=NAME`; `:mixup=n` chooses the weight. One run:

  python -m launch.main --config=configs/table5_weights.py:mixup=2 --workdir=W \
    --config.data.source=cifar-100-binary.tar.gz

Data and cost: those of table4_robustness.py.

Paper, errors in per cent:

  | n | clean | FGSM  | corruption | occlusion |
  | 1 | 15.35 | 75.81 | 45.84      | 26.73     |
  | 2 | 15.65 | 66.64 | 42.45      | 29.55     |
  | 3 | 15.51 | 70.23 | 42.16      | 28.12     |
  | 4 | 15.16 | 63.78 | 42.17      | 27.72     |
"""

from typing import Any

from configs.common import seeds
from configs.table4_robustness import NOTE, get_config, paper_metrics

__all__ = ['NOTE', 'PAPER', 'get_config', 'sweep']

PAPER = {
  'mixup=1.0': paper_metrics(15.35, 75.81, 45.84, 26.73),
  'mixup=2.0': paper_metrics(15.65, 66.64, 42.45, 29.55),
  'mixup=3.0': paper_metrics(15.51, 70.23, 42.16, 28.12),
  'mixup=4.0': paper_metrics(15.16, 63.78, 42.17, 27.72),
}


def sweep(add: Any, arg: str = '') -> None:
  """Adds the entries of PAPER, three seeds each."""
  for entry in PAPER:
    for seed in seeds(arg):
      add(entry, seed=seed)
