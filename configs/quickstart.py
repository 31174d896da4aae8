"""A small WideResNet (10-1) on scikit-learn's real handwritten digits.

No download, under 30 seconds a run on two CPU cores:

  python -m launch.main --config=configs/quickstart.py --workdir=W

`make run` trains it without mixing and with RandomMix over three seeds:

  python -m launch.sweep --config=configs/quickstart.py --workdir=W
  python -m launch.report W

`:method=` is one of random_mix, mixup, cutmix, resizemix, fmix, saliency_mix,
puzzle_mix, co_mixup, cutout, none; `:smoke` is four steps. The methods
manifold_mixup, patchup_hard and patchup_soft mix states of the network
(docs/mixing.md).
"""

from typing import Any

from configs.common import METHODS, classification, make_smoke, parse_arg, seeds

BASELINE = 'method=none'


def get_config(arg: str | None = None) -> Any:
  """1,437 training and 360 test images of 8x8 pixels, ten classes.

  The paper's recipe, smaller; digits are not mirrored.
  """
  choice = parse_arg(arg, smoke=False, method=METHODS)
  config = classification(
    choice,
    data='digits',
    model={
      'name': 'wide_resnet',
      'depth': 10,
      'width': 1,
      'stem_stride': 1,
      'dtype': 'float32',
    },
    weights=(1.0, 1.0, 1.0, 1.0),
  )
  config.epochs = 30.0
  config.batch_size = 64
  config.augment.pad = 1
  config.augment.flip = False
  config.evals.clean.batch_size = 360

  config.steps_per_dispatch = 16
  config.log_every = 48
  config.eval_every = 3.0
  config.checkpoint_every = 10.0
  config.keep_checkpoints = 1
  config.tensorboard = False
  config.max_save_failures = 3
  config.max_skipped_steps = 0
  if choice.smoke:
    make_smoke(config)
  return config


def sweep(add: Any, arg: str = '') -> None:
  """The rows of `make run`."""
  for method in ('none', 'random_mix'):
    for seed in seeds(arg):
      add(f'method={method}', seed=seed)
