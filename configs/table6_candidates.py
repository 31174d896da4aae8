"""Table 6 of RandomMix: which modes to choose from, on Tiny-ImageNet.

  python -m launch.sweep --config=configs/table6_candidates.py --workdir=W \
    --config.data.source=tiny-imagenet-200.zip
  python -m launch.report W

trains `tiny_imagenet_preact` with every set of mixup (M), cutmix (C), resizemix
(R) and fmix (F) as candidates of equal weights, and without any, three seeds
each. `:small` is CIFAR-100 instead: a narrow network on 10,000 images for 30
epochs, which two cores can train; `:smoke` is four steps of a narrow network on
Tiny-ImageNet (40 seconds of CPU a row), `:small,smoke` of that one. One row,
with its `:candidates=`, of which MCRF is the default and `none` the baseline:

  python -m launch.main --config=configs/table6_candidates.py --workdir=W

The paper's top-1 in per cent; it has no row of R and F, and its
mean of the pairs, 67.97, is that of the other five:

  | none | M     | C     | R     | F     | MC    | MR    | MF    |
  | 63.75 | 65.73 | 67.17 | 67.24 | 65.77 | 68.50 | 68.89 | 67.81 |
  | CR    | CF    | RF | MCR   | MCF   | MRF   | CRF   | MCRF  |
  | 67.73 | 66.94 | –  | 68.91 | 68.56 | 69.07 | 68.19 | 68.92 |

The same runs have other numbers in table 2: none 63.43, mixup 64.77, cutmix
67.72, resizemix 67.71, fmix 66.18 and all four 68.94.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import classification, parse_arg, seeds

LETTERS = {'M': 'mixup', 'C': 'cutmix', 'R': 'resizemix', 'F': 'fmix'}
SETS = (
  *('none', 'M', 'C', 'R', 'F'),
  *('MC', 'MR', 'MF', 'CR', 'CF', 'RF'),
  *('MCR', 'MCF', 'MRF', 'CRF', 'MCRF'),
)

_TOP1 = {
  **{'none': 63.75, 'M': 65.73, 'C': 67.17, 'R': 67.24, 'F': 65.77},
  **{'MC': 68.50, 'MR': 68.89, 'MF': 67.81, 'CR': 67.73, 'CF': 66.94},
  **{'MCR': 68.91, 'MCF': 68.56, 'MRF': 69.07, 'CRF': 68.19},
  'MCRF': 68.92,
}
PAPER = {
  f'candidates={letters}': {'clean/top1': top1 / 100}
  for letters, top1 in _TOP1.items()
}


BASELINE = 'candidates=none'


def get_config(arg: str | None = None) -> Any:
  """The recipe of `tiny_imagenet_preact`, with other candidates."""
  choice = parse_arg(
    arg, smoke=False, small=False, candidates=tuple(reversed(SETS))
  )
  letters = '' if choice.candidates == 'none' else choice.candidates
  modes = tuple(LETTERS[letter] for letter in letters) or ('identity',)
  model = {
    'name': 'preact_resnet18',
    'width': 64,
    'stem_stride': 2,
    'dtype': 'bfloat16',
  }
  if choice.small:
    model |= {'width': 8, 'stem_stride': 1, 'dtype': 'float32'}
  elif choice.smoke:
    model['width'] = 8
  config = classification(
    ConfigDict({'method': 'random_mix', 'smoke': choice.smoke}),
    data='cifar100' if choice.small else 'tiny_imagenet',
    model=model,
    weights=(1.0,) * len(modes),
  )
  config.mix.candidates = modes
  if choice.small and not choice.smoke:
    config.data.train_examples = 10_000
    config.epochs = 30.0
    config.batch_size = 128
  return config


def sweep(add: Any, arg: str = '') -> None:
  """The rows of table 6, and the one that it lacks."""
  for letters in SETS:
    for seed in seeds(arg):
      add(f'candidates={letters}', seed=seed)
