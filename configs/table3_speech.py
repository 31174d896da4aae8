"""Table 3 of RandomMix: Google Speech Commands with PreAct-ResNet18.

  python -m launch.sweep --config=configs/table3_speech.py --workdir=W \
    --config.data.source=speech_commands_v0.01.tar.gz
  python -m launch.report W

trains each method of PAPER, three seeds each, and prints the paper's numbers
beside ours. One run, with `:method=NAME` of configs/common/mix_methods.py:

  python -m launch.main --config=configs/table3_speech.py --workdir=W \
    --config.data.source=speech_commands_v0.01.tar.gz

`:small` is a network an eighth as wide for 30 epochs, which two CPU cores train
on fsdd in minutes; `:smoke` runs four steps of it.

Data: `:data=` chooses

  speech_commands_v1  the paper's, 64,727 files, the 12 classes of Kaggle
  speech_commands_v2  its second version
  fsdd                ten spoken digits, 16 MB, without a validation split
  fsdd_speakers       the same, tested on two speakers left out of training

docs/speech.md says where they come from and how audio becomes an image.

Cost: 3.3 GFLOP an example, 56 PFLOP a run of speech_commands_v1: two minutes at
half of an H100's 989 TFLOP/s (derived). Not yet measured on an accelerator.

Paper: random_mix 98.33 on the validation and 98.77 on the test split, none
97.98 and 98.25, top-1 in per cent; PAPER has all numbers. It gives neither the
schedule of the learning rate (here cosine, as in its other experiments) nor the
augmentation of the audio.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import METHODS, mix_options, parse_arg, seeds

DATA = ('speech_commands_v1', 'speech_commands_v2', 'fsdd', 'fsdd_speakers')

# Top-1 in per cent: validation, test.
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
  """Returns the config of section 3.1.3 for `arg`, such as 'method=cutmix'."""
  choice = parse_arg(arg, smoke=False, small=False, data=DATA, method=METHODS)
  config = ConfigDict()
  config.task = 'jaxmix.classification.task'
  config.seed = 0

  config.data = {
    'name': choice.data,
    'source': '',  # the publisher's archive or its folder
    'dir': '',  # of prepared data sets; empty: ~/tensorflow_datasets
    'download': False,
    'feed': 'resident',  # all audio stays in device memory
    'train_examples': 0,  # 0: all
    'test_examples': 0,  # 0: all
  }

  config.model = {
    'name': 'preact_resnet18',
    'width': 64,
    'stem_stride': 1,
    'dtype': 'bfloat16',  # parameters and statistics are float32
  }
  config.batch_norm = 'global'  # statistics of the whole batch

  config.epochs = 300.0
  config.batch_size = 256
  config.virtual_devices = 1  # mix within the whole batch, as on one GPU
  config.device_count_invariant = False

  config.optimizer = {
    'name': 'sgd',
    'lr': 0.05,
    'schedule': 'cosine',  # to 0 at the last step
    'warmup_epochs': 0.0,
    'momentum': 0.9,
    'nesterov': False,
    'weight_decay': 5e-4,  # of all parameters
  }

  # As in FMix's experiment, each in half of the cases.
  config.augment = {
    'shift': 0.25,  # seconds, early or late
    'speed': 0.2,  # a fifth faster or slower
    'noise': 0.45,  # fraction of the loudness
    'cutout': 16 if choice.method == 'cutout' else 0,  # of 32 bands and frames
  }

  # Weights of Mixup, CutMix, ResizeMix and FMix in RandomMix.
  config.mix = mix_options(
    choice.method, weights=(1.0, 1.0, 1.0, 1.0), alpha=1.0, image_size=32
  )
  config.label_smoothing = 0.0

  if choice.data.startswith('speech_commands'):
    config.evals = {
      'clean': {'batch_size': 1000},
      'validation': {'batch_size': 1000},
    }
  else:
    config.evals = {'clean': {'batch_size': 1000}}
  config.eval_every = 5.0  # epochs

  config.log_every = 96  # steps
  config.steps_per_dispatch = 32  # one loop on the device
  config.checkpoint_every = 5.0  # epochs
  config.keep_checkpoints = 2
  config.max_save_failures = 3  # in a row; then the run ends
  config.max_skipped_steps = 0  # in a row, for a loss that is not finite
  config.tensorboard = True

  if choice.small or choice.smoke:
    config.update(
      model={'width': 8, 'dtype': 'float32'},
      epochs=30.0,
      batch_size=64,
    )
  if choice.smoke:
    config.update(
      data={'train_examples': 64, 'test_examples': 100},
      epochs=1.0,
      batch_size=16,
      evals={name: {'batch_size': 40} for name in config.evals},
      steps_per_dispatch=2,
    )
  return config


def sweep(add: Any, arg: str = '') -> None:
  """Adds the entries of PAPER, three seeds each."""
  for entry in PAPER:
    for seed in seeds(arg):
      add(entry, seed=seed)
