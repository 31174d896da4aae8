"""Table 2 of RandomMix, left half: Tiny-ImageNet with PreAct-ResNet18.

  python -m launch.main --config=configs/tiny_imagenet_preact.py --workdir=W \
    --config.data.source=tiny-imagenet-200.zip

trains one run with RandomMix, weights [1, 1, 1, 1]. `:method=NAME` takes any
method of configs/common/mix_methods.py, and `:smoke` runs four steps of a
narrow network (40 seconds of CPU, most of them to read the prepared set). The
whole table, three seeds for each method of PAPER:

  python -m launch.sweep --config=configs/tiny_imagenet_preact.py --workdir=W \
    --config.data.source=tiny-imagenet-200.zip
  python -m launch.report W --cost

Data: the publisher's zip or its folder, prepared once. With
--config.data.download=True instead of the source it is downloaded. Decoded it
takes 1.35 GB, of which 1.23 GB of training images stay in device memory.

Cost: 3.3 GFLOP an image, 67 PFLOP a run: 135 seconds at half of an H100's 989
TFLOP/s (derived). Not yet measured on an accelerator.

Paper: random_mix 68.94, none 63.43, top-1 in per cent; PAPER has all numbers.
It does not say how the network takes 64x64 images. Here the first convolution
has stride 2; --config.model.stem_stride=1 costs four times as much. The crop
from 4 pixels of padding and the flip are those of CIFAR.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import METHODS, mix_options, parse_arg, seeds

# Top-1 and top-5 in per cent, and the training time relative to none, which the
# paper gives once for both halves of the table.
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
  """Returns the config of section 3.1.2 for `arg`, such as 'method=cutmix'."""
  choice = parse_arg(arg, smoke=False, method=METHODS)
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
    'stem_stride': 2,  # our choice, see above
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
    'cutout': 32 if choice.method == 'cutout' else 0,  # pixels
  }

  # Weights of Mixup, CutMix, ResizeMix and FMix in RandomMix.
  config.mix = mix_options(
    choice.method, weights=(1.0, 1.0, 1.0, 1.0), alpha=1.0, image_size=64
  )
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

  if choice.smoke:
    config.update(
      data={'train_examples': 64, 'test_examples': 100},
      model={'width': 8},
      epochs=1.0,
      batch_size=16,
      evals={'clean': {'batch_size': 40}},
      steps_per_dispatch=2,
    )
  return config


def sweep(add: Any, arg: str = '') -> None:
  """Adds the entries of PAPER, three seeds each."""
  for entry in PAPER:
    for seed in seeds(arg):
      add(entry, seed=seed)
