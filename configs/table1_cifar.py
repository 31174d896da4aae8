"""Table 1 of RandomMix: CIFAR-10 and CIFAR-100 with two networks.

  python -m launch.sweep --config=configs/table1_cifar.py --workdir=W \
    --config.data.download=True
  python -m launch.report W --cost

trains both networks on both data sets with each method of PAPER, three seeds
each, and prints the paper's numbers beside ours. One run, with `:data=cifar10`
or cifar100, `:model=preact` or wrn, and `:method=NAME` of
configs/common/mix_methods.py:

  python -m launch.main \
    --config=configs/table1_cifar.py:data=cifar10,model=wrn,method=none \
    --workdir=W --config.data.source=cifar-10-binary.tar.gz

`:smoke` runs four steps of each with narrow networks and one seed.

Data: the publisher's binary archives, downloaded and prepared once. Without
--config.data.download=True the sweep needs both sets prepared, the single run
its archive as --config.data.source.

Cost of a run: preact 33 PFLOP, 67 seconds at half of an H100's 989 TFLOP/s;
wrn 315 PFLOP, 11 minutes (derived: 3.3 and 31.5 GFLOP an image). Not yet
measured on an accelerator. Two CPU cores train about 50 images/s of preact
(--config.model.width=16 is faster) and 8 of wrn.

Paper: RandomMix 97.22 and 82.14 with preact, 98.02 and 84.84 with wrn, top-1 in
per cent; PAPER has all numbers. The paper quotes those of Manifold Mixup and
PatchUp from runs of another recipe; here both are trained by this one.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import METHODS, mix_options, parse_arg, seeds

# Top-1 in per cent, columns as in `_COLUMNS`.
_TOP1 = {
  'none': (95.18, 77.55, 96.28, 80.87),
  'mixup': (96.15, 79.49, 97.23, 82.61),
  'cutmix': (96.43, 79.73, 97.06, 82.34),
  'fmix': (96.46, 79.45, 97.02, 81.78),
  'resizemix': (96.69, 80.66, 97.48, 83.00),
  'saliency_mix': (96.28, 80.01, 96.87, 81.95),
  'puzzle_mix': (96.82, 80.68, 97.51, 83.71),
  'random_mix': (97.22, 82.14, 98.02, 84.84),
  # Quoted from runs of another recipe. The paper does not say whether PatchUp
  # is hard or soft; PatchUp's own paper prefers hard.
  'manifold_mixup': (97.05, 79.66, 97.45, 81.96),
  'patchup_hard': (97.08, 80.88, 97.47, 82.30),
}
_COLUMNS = (
  'model=preact,data=cifar10',
  'model=preact,data=cifar100',
  'model=wrn,data=cifar10',
  'model=wrn,data=cifar100',
)
PAPER = {
  f'{column},method={method}': {'clean/top1': top1 / 100}
  for method, numbers in _TOP1.items()
  for column, top1 in zip(_COLUMNS, numbers, strict=True)
}
NOTE = (
  'The paper quotes the rows of manifold_mixup and patchup_hard from runs of '
  'another recipe: 2000 epochs of PreAct-ResNet18, 400 of WideResNet.'
)
BASELINE = 'method=none'


def get_config(arg: str | None = None) -> Any:
  """Returns the config of section 3.1.1 for `arg`, such as 'model=wrn'."""
  choice = parse_arg(
    arg,
    smoke=False,
    data=('cifar100', 'cifar10'),
    model=('preact', 'wrn'),
    method=METHODS,
  )
  wide = choice.model == 'wrn'
  config = ConfigDict()
  config.task = 'jaxmix.classification.task'
  config.seed = 0

  config.data = {
    'name': choice.data,
    'source': '',  # the publisher's archive or its folder
    'dir': '',  # of prepared data sets; empty: ~/tensorflow_datasets
    'download': False,
    'feed': 'resident',  # all images stay in device memory
    'train_examples': 0,  # 0: all 50,000
    'test_examples': 0,  # 0: all 10,000
  }

  if wide:
    config.model = {
      'name': 'wide_resnet',
      'depth': 28,
      'width': 10,
      'stem_stride': 1,
      'dtype': 'bfloat16',  # parameters and statistics are float32
    }
  else:
    config.model = {
      'name': 'preact_resnet18',
      'width': 64,
      'stem_stride': 1,
      'dtype': 'bfloat16',
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

  hole = 16 if choice.data == 'cifar10' else 8  # pixels, of Cutout's paper
  config.augment = {
    'pad': 4,  # pixels on each side, before a random crop
    'flip': True,
    'cutout': hole if choice.method == 'cutout' else 0,
  }

  # Weights of Mixup, CutMix, ResizeMix and FMix in RandomMix.
  config.mix = mix_options(
    choice.method,
    weights=(3.0, 1.0, 1.0, 1.0) if wide else (1.0, 1.0, 1.0, 1.0),
    alpha=1.0,
    image_size=32,
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
      model={'width': 1 if wide else 8},
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
