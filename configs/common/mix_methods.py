"""The recipe of RandomMix."""

from typing import Any

from ml_collections import ConfigDict

from configs.common.rhythm import RHYTHM

METHODS = (
  *('random_mix', 'mixup', 'cutmix', 'resizemix', 'fmix'),
  *('saliency_mix', 'puzzle_mix', 'co_mixup'),
  *('cutout', 'none'),
  *('manifold_mixup', 'patchup_hard', 'patchup_soft'),
)

# Pixels: its paper's on CIFAR, half a side elsewhere.
_CUTOUT = {
  'cifar10': 16,
  'cifar100': 8,
  'digits': 4,
  'imagenet': 112,
  'tiny_imagenet': 32,
}
_SOUND = 16  # of 32 bands and frames


# Of Puzzle Mix: how many blocks a side may have, its code's where they fit.
_BLOCKS = {'digits': (2, 4, 8)}


def mix_options(
  method: str, weights: tuple[float, ...], data: str
) -> dict[str, Any]:
  """The block `config.mix`: a kind of mixing, and its options.

  Args:
    method: one of `METHODS`.
    weights: of mixup, cutmix, resizemix and fmix, where the method is
      `'random_mix'`.
    data: the data set's name.
  """
  if method == 'saliency_mix':
    return {
      'name': method,
      'alpha': 1.0,
      'pairing': 'permutation',
      'granularity': 'batch',
    }
  if method == 'puzzle_mix':
    return {
      'name': method,
      'alpha': 1.0,
      'blocks': _BLOCKS.get(data, (2, 4, 8, 16)),
      'levels': 3,
      'label_smoothness': 1.2,
      'data_smoothness': 0.5,
      'prior': 0.2,
      'transport_cost': 0.8,
      'pairing': 'permutation',
      'granularity': 'batch',
    }
  if method == 'co_mixup':
    return {
      'name': method,
      'group': 16,
      'grid': 4,
      'concentration': 2,
      'border_cost': 0.32,
      'diversity': 1.0,
      'threshold': 0.83,
      'input_prior': 0.05,
      'sweeps': 4,
    }
  if method == 'manifold_mixup':
    return {
      'name': method,
      'alpha': 2.0,
      # The input, and what leaves the first and the second stage.
      'layers': (0, 2, 3),
      'pairing': 'permutation',
    }
  if method in ('patchup_hard', 'patchup_soft'):
    hard = method == 'patchup_hard'
    return {
      'name': 'patchup',
      'hard': hard,
      'probability': 0.7 if hard else 1.0,
      'gamma': 0.5 if hard else 0.75,
      'block_size': 3 if data == 'digits' else 7,  # of 8 pixels a side
      'alpha': 2.0,
      # The input, and what leaves the stem and the first stage.
      'layers': (0, 1, 2),
      'pairing': 'permutation',
    }
  candidates = (method,)
  if method == 'random_mix':
    candidates = ('mixup', 'cutmix', 'resizemix', 'fmix')
  elif method in ('cutout', 'none'):
    candidates = ('identity',)
  return {
    'name': 'random_mix',
    'candidates': candidates,
    'weights': weights if method == 'random_mix' else (1.0,),
    'alpha': {'mixup': 1.0, 'cutmix': 1.0, 'fmix': 1.0},
    'scale': (0.1, 0.8),
    'method': 'nearest',
    'spectrum': 'isotropic',
    'decay_power': 3.0,
    'max_soft': 0.0,
    'pairing': 'permutation',
    'granularity': 'batch',
  }


def classification(
  choice: Any, *, data: str, model: dict[str, Any], weights: tuple[float, ...]
) -> Any:
  """The recipe of RandomMix, section 3.1.1, every field of it.

  Args:
    choice: `method` and `smoke`, as `parse_arg` gives them.
    data: the data set's name.
    model: the block `config.model`.
    weights: of mixup, cutmix, resizemix and fmix in RandomMix.
  """
  config = ConfigDict()
  config.task = 'jaxmix.classification.task'
  config.seed = 0

  config.epochs = 200.0
  config.batch_size = 256
  config.virtual_devices = 1
  config.device_count_invariant = False
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
  config.batch_norm = 'global'

  config.model = model
  config.augment = {
    'pad': 4,
    'flip': True,
    'cutout': _CUTOUT.get(data, _SOUND) if choice.method == 'cutout' else 0,
  }
  config.mix = mix_options(choice.method, weights, data)

  config.data = {
    'name': data,
    'source': '',
    'dir': '',
    'download': False,
    'feed': 'resident',
    'train_examples': 0,
    'test_examples': 0,
  }
  config.evals = {'clean': {'batch_size': 1000}}

  config.update(RHYTHM)
  if choice.smoke:
    make_smoke(config)
  return config


def make_smoke(config: Any) -> None:
  """Shrinks a run to four steps of the real model on real data."""
  config.batch_size = 16  # two for each of eight devices, to be mixed
  config.epochs = 1.0
  config.steps_per_dispatch = 2
  config.data.train_examples = 64
  config.data.test_examples = 100
  config.evals.clean.batch_size = 40  # which eight devices can share
