"""WideResNet-28-10 on CIFAR-10 with RandomMix, weights [3, 1, 1, 1].

RandomMix, table 1 (lower half). The paper's numbers, top-1 of one run each
in per cent: none 96.28, mixup 97.23, cutmix 97.06, fmix 97.02,
resizemix 97.48, random_mix 98.02.

  python -m launch.main --config=configs/cifar10_wrn.py --workdir=W

After the name, `:method=` chooses random_mix, mixup, cutmix, resizemix, fmix or
none, and `:smoke` four steps of the real model (a minute on two cores). The
data come from a prepared TFDS data set, from --config.data.source=PATH (the
publisher's binary archive or its folder) or, with --config.data.download=True,
from the publisher.

Cost: 31.5 GFLOP an image, 315 PFLOP in all (derived: 11 minutes at
half of an H100's 989 TFLOP/s). Not yet measured on an accelerator; on two
CPU cores about 8 images/s, so only `:smoke` makes sense there.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import METHODS, make_smoke, mix_options, parse_arg


def get_config(arg: str | None = None) -> Any:
  """The recipe of section 3.1.1, every field of it."""
  choice = parse_arg(arg, smoke=False, method=METHODS)
  config = ConfigDict()
  config.task = 'jaxmix.classification.task'
  config.seed = 0

  config.epochs = 200.0
  config.batch_size = 256
  config.optimizer = {
    'name': 'sgd',
    'lr': 0.1,
    'schedule': 'cosine',
    'warmup_epochs': 0.0,
    'momentum': 0.9,
    'nesterov': False,
    'weight_decay': 5e-4,
  }
  config.label_smoothing = 0.0

  config.model = {
    'name': 'wide_resnet',
    'depth': 28,
    'width': 10,
    'stem_stride': 1,
    'dtype': 'bfloat16',
  }
  config.augment = {'pad': 4, 'flip': True}
  config.mix = mix_options(choice.method, weights=(3.0, 1.0, 1.0, 1.0))

  config.data = {
    'name': 'cifar10',
    'source': '',
    'dir': '',
    'download': False,
    'feed': 'resident',
    'train_examples': 0,
    'test_examples': 0,
  }
  config.evals = {'clean': {'batch_size': 1000}}

  config.steps_per_call = 32
  config.log_every = 96
  config.eval_every = 5.0
  config.checkpoint_every = 5.0
  config.keep_checkpoints = 2
  config.tensorboard = True
  if choice.smoke:
    make_smoke(config)
  return config
