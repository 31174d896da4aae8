"""Quickstart: a small WideResNet (10-1) on scikit-learn's handwritten digits.

  python -m launch.main --config=configs/quickstart.py --workdir=W

trains one run with RandomMix. `:method=NAME` takes any method of
configs/common/mix_methods.py, and `:smoke` runs four steps. `make run` trains
with and without mixing, three seeds each, and prints the table:

  python -m launch.sweep --config=configs/quickstart.py --workdir=W
  python -m launch.report W

Data: come with scikit-learn, no download. 1,437 training and 360 test images of
8x8 pixels, ten classes.

Cost: under 30 seconds a run on two CPU cores.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import METHODS, mix_options, parse_arg, seeds

BASELINE = 'method=none'


def get_config(arg: str | None = None) -> Any:
  """Returns the config for `arg`, such as 'method=cutmix'."""
  choice = parse_arg(arg, smoke=False, method=METHODS)
  config = ConfigDict()
  config.task = 'jaxmix.classification.task'
  config.seed = 0

  config.data = {
    'name': 'digits',
    'source': '',  # unused: the digits come with scikit-learn
    'dir': '',
    'download': False,
    'feed': 'resident',  # all images stay in device memory
    'train_examples': 0,  # 0: all 1,437
    'test_examples': 0,  # 0: all 360
  }

  config.model = {
    'name': 'wide_resnet',
    'depth': 10,
    'width': 1,
    'stem_stride': 1,
    'dtype': 'float32',  # bfloat16 is slower on a CPU
  }
  config.batch_norm = 'global'  # statistics of the whole batch

  config.epochs = 30.0
  config.batch_size = 64
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
    'pad': 1,  # pixels on each side, before a random crop
    'flip': False,  # a mirrored digit is another shape
    'cutout': 4 if choice.method == 'cutout' else 0,  # pixels
  }

  # Weights of Mixup, CutMix, ResizeMix and FMix in RandomMix.
  config.mix = mix_options(
    choice.method, weights=(1.0, 1.0, 1.0, 1.0), alpha=1.0, image_size=8
  )
  config.label_smoothing = 0.0

  config.evals = {'clean': {'batch_size': 360}}
  config.eval_every = 3.0  # epochs

  config.log_every = 48  # steps
  config.steps_per_dispatch = 16  # one loop on the device
  config.checkpoint_every = 10.0  # epochs
  config.keep_checkpoints = 1
  config.max_save_failures = 3  # in a row; then the run ends
  config.max_skipped_steps = 0  # in a row, for a loss that is not finite
  config.tensorboard = False

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
  """Adds the entries of `make run`, three seeds each."""
  for method in ('none', 'random_mix'):
    for seed in seeds(arg):
      add(f'method={method}', seed=seed)
