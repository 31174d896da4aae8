"""WideResNet-28-10 on CIFAR-100 with RandomMix, weights [3, 1, 1, 1].

  python -m launch.main --config=configs/cifar100_wrn.py --workdir=W \
    --config.data.source=cifar-100-binary.tar.gz

trains one run and evaluates it on the test set; the same command resumes it.
`:method=NAME` after the file name takes any method of
configs/common/mix_methods.py, and `:smoke` runs four steps of the real network
(a minute on two CPU cores).

Data: the publisher's binary archive or its folder, prepared once. With
--config.data.download=True instead of the source it is downloaded.

Cost: 31.5 GFLOP an image, 315 PFLOP a run: 11 minutes at half of an H100's 989
TFLOP/s (derived). Not yet measured on an accelerator. Two CPU cores train about
8 images/s, enough for `:smoke` only.

Paper (RandomMix, table 1), top-1 in per cent: 84.84, without mixing 80.87. Its
tables 4 and 5 give 84.84 to the weights [4, 1, 1, 1] and 84.49 to these, so do
not take 84.84 as the target.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import METHODS, mix_options, parse_arg


def get_config(arg: str | None = None) -> Any:
  """Returns the config of section 3.1.1 for `arg`, such as 'method=cutmix'."""
  choice = parse_arg(arg, smoke=False, method=METHODS)
  config = ConfigDict()
  config.task = 'jaxmix.classification.task'
  config.seed = 0

  config.data = {
    'name': 'cifar100',
    'source': '',  # the publisher's archive or its folder
    'dir': '',  # of prepared data sets; empty: ~/tensorflow_datasets
    'download': False,
    'feed': 'resident',  # all images stay in device memory
    'train_examples': 0,  # 0: all 50,000
    'test_examples': 0,  # 0: all 10,000
  }

  config.model = {
    'name': 'wide_resnet',
    'depth': 28,
    'width': 10,
    'stem_stride': 1,
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
    'cutout': 8 if choice.method == 'cutout' else 0,  # pixels
  }

  # For each batch RandomMix draws Mixup, CutMix, ResizeMix or FMix with these
  # weights, and the ratio from Beta(alpha, alpha). mix_methods.py has the rest.
  config.mix = mix_options(
    choice.method, weights=(3.0, 1.0, 1.0, 1.0), alpha=1.0, image_size=32
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
      epochs=1.0,
      batch_size=16,
      evals={'clean': {'batch_size': 40}},
      steps_per_dispatch=2,
    )
  return config
