"""Table 3 of RandomMix: spoken words as pictures, PreAct-ResNet18.

  python -m launch.sweep --config=configs/table3_speech.py --workdir=W \
    --config.data.source=speech_commands_v0.01.tar.gz
  python -m launch.report W

trains six methods over three seeds on Google Speech Commands, the twelve
classes of Kaggle's challenge. `:data=` chooses speech_commands_v1 (the paper's,
64,727 files), speech_commands_v2, fsdd (ten spoken digits, small; no validation
split) or fsdd_speakers (the same, tested on two speakers never heard). `:small`
is a network an eighth as wide for 30 epochs, which trains fsdd on two cores in
minutes, and `:smoke` four steps of that. One row, with its `:method=`
(random_mix, mixup, cutmix, resizemix, fmix, saliency_mix, puzzle_mix, co_mixup,
cutout or none):

  python -m launch.main --config=configs/table3_speech.py --workdir=W

The methods manifold_mixup, patchup_hard and patchup_soft, which the table has
not, mix states of the network (docs/mixing.md).

docs/speech.md tells what a sound becomes. The paper's top-1 in per cent:

  |            | validation | test  |
  | none       | 97.98      | 98.25 |
  | mixup      | 98.26      | 98.59 |
  | cutmix     | 97.93      | 98.36 |
  | fmix       | 98.13      | 98.60 |
  | resizemix  | 98.14      | 98.53 |
  | random_mix | 98.33      | 98.77 |

It does not say how the learning rate falls (here by cosine, as in its other
experiments), nor how sounds are augmented.

Cost: 3.3 GFLOP a sound, 56 PFLOP a run of speech_commands_v1 (derived: two
minutes at half of an H100's 989 TFLOP/s). Not yet measured on an accelerator.
"""

from typing import Any

from configs.common import METHODS, classification, parse_arg, seeds

DATA = ('speech_commands_v1', 'speech_commands_v2', 'fsdd', 'fsdd_speakers')
_TOP1 = {
  'none': (97.98, 98.25),
  'mixup': (98.26, 98.59),
  'cutmix': (97.93, 98.36),
  'fmix': (98.13, 98.60),
  'resizemix': (98.14, 98.53),
  'random_mix': (98.33, 98.77),
}
PAPER = {
  f'method={method}': {
    'validation/top1': validation / 100,
    'clean/top1': test / 100,
  }
  for method, (validation, test) in _TOP1.items()
}
BASELINE = 'method=none'


def get_config(arg: str | None = None) -> Any:
  """Section 3.1.3: batch 256, 300 epochs, SGD from 0.05."""
  choice = parse_arg(arg, smoke=False, small=False, data=DATA, method=METHODS)
  small = choice.small or choice.smoke
  config = classification(
    choice,
    data=choice.data,
    model={
      'name': 'preact_resnet18',
      'width': 8 if small else 64,
      'stem_stride': 1,
      'dtype': 'float32' if small else 'bfloat16',
    },
    weights=(1.0, 1.0, 1.0, 1.0),
  )
  config.optimizer.lr = 0.05
  # As in FMix's experiment: a quarter of a second, a fifth faster or slower.
  config.augment = {
    'shift': 0.25,
    'speed': 0.2,
    'noise': 0.45,
    'cutout': config.augment.cutout,
  }
  if choice.data.startswith('speech_commands'):
    config.evals.validation = {'batch_size': config.evals.clean.batch_size}
  if choice.small and not choice.smoke:
    config.epochs = 30.0
    config.batch_size = 64
  elif not choice.smoke:
    config.epochs = 300.0
  return config


def sweep(add: Any, arg: str = '') -> None:
  """The rows of table 3."""
  for row in PAPER:
    for seed in seeds(arg):
      add(row, seed=seed)
