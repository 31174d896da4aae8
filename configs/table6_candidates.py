"""Table 6 of RandomMix: the set of modes to choose from, on Tiny-ImageNet.

  python -m launch.sweep --config=configs/table6_candidates.py --workdir=W \
    --config.data.source=tiny-imagenet-200.zip
  python -m launch.report W

trains with every set of Mixup (M), CutMix (C), ResizeMix (R) and FMix (F) as
candidates of equal weights, and with none, three seeds each, and prints the
paper's numbers beside ours. One run, with `:candidates=`, by default MCRF:

  python -m launch.main --config=configs/table6_candidates.py:candidates=MC \
    --workdir=W --config.data.source=tiny-imagenet-200.zip

`:smoke` runs four steps of a narrow network (40 seconds of CPU). `:small` is
CIFAR-100 instead: a narrow network on 10,000 images for 30 epochs, which two
CPU cores can train; `:small,smoke` runs four steps of that.

Data and cost: those of tiny_imagenet_preact.py, whose config this is but for
the candidates. `:small` takes the data of cifar100_wrn.py.

Paper: MCRF 68.92, none 63.75, top-1 in per cent; PAPER has all numbers. It has
no RF, and its mean of the pairs, 67.97, is that of the other five. The same
runs have other numbers in its table 2: none 63.43, MCRF 68.94.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import mix_options, parse_arg, seeds

LETTERS = {'M': 'mixup', 'C': 'cutmix', 'R': 'resizemix', 'F': 'fmix'}
SETS = (
  *('none', 'M', 'C', 'R', 'F'),
  *('MC', 'MR', 'MF', 'CR', 'CF', 'RF'),
  *('MCR', 'MCF', 'MRF', 'CRF', 'MCRF'),
)

# Top-1 in per cent.
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
  """Returns the config of section 3.3 for `arg`, such as 'candidates=MC'."""
  choice = parse_arg(arg, smoke=False, small=False, candidates=('MCRF', *SETS))
  config = ConfigDict()
  config.task = 'jaxmix.classification.task'
  config.seed = 0

  config.data = {
    'name': 'tiny_imagenet',
    'source': '',  # the publisher's zip or its folder
    'dir': '',  # of prepared data sets; empty: ~/tensorflow_datasets
    'download': False,
    'feed': 'resident',  # all images stay in device memory
    'train_examples': 0,  # 0: all 100,000
    'test_examples': 0,  # 0: all 10,000
  }

  config.model = {
    'name': 'preact_resnet18',
    'width': 64,
    'stem_stride': 2,
    'dtype': 'bfloat16',  # parameters and statistics are float32
  }
  config.batch_norm = 'global'  # statistics of the whole batch

  config.epochs = 200.0
  config.batch_size = 256
  config.virtual_devices = 1  # mix within the whole batch, as on one GPU
  config.device_count_invariant = False

  config.optimizer = {
    'name': 'sgd',
    'lr': 0.1,
    'schedule': 'cosine',  # to 0 at the last step
    'warmup_epochs': 0.0,
    'momentum': 0.9,
    'nesterov': False,
    'weight_decay': 5e-4,  # of all parameters
  }

  config.augment = {
    'pad': 4,  # pixels on each side, before a random crop
    'flip': True,
    'cutout': 0,
  }

  modes = ('identity',)
  if choice.candidates != 'none':
    modes = tuple(LETTERS[letter] for letter in choice.candidates)
  config.mix = mix_options(
    'random_mix', weights=(1.0,) * len(modes), alpha=1.0, image_size=64
  ) | {'candidates': modes}
  config.label_smoothing = 0.0

  config.evals = {'clean': {'batch_size': 1000}}
  config.eval_every = 5.0  # epochs

  config.log_every = 96  # steps
  config.steps_per_dispatch = 32  # one loop on the device
  config.checkpoint_every = 5.0  # epochs
  config.keep_checkpoints = 2
  config.max_save_failures = 3  # in a row; then the run ends
  config.max_skipped_steps = 0  # in a row, for a loss that is not finite
  config.tensorboard = True

  if choice.small:
    config.update(
      data={'name': 'cifar100', 'train_examples': 10_000},
      model={'stem_stride': 1, 'dtype': 'float32'},
      epochs=30.0,
      batch_size=128,
    )
  if choice.small or choice.smoke:
    config.update(model={'width': 8})
  if choice.smoke:
    config.update(
      data={'train_examples': 64, 'test_examples': 100},
      epochs=1.0,
      batch_size=16,
      evals={'clean': {'batch_size': 40}},
      steps_per_dispatch=2,
    )
  return config


def sweep(add: Any, arg: str = '') -> None:
  """Adds every set of SETS, three seeds each; the paper has all but RF."""
  for letters in SETS:
    for seed in seeds(arg):
      add(f'candidates={letters}', seed=seed)
