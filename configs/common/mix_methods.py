"""Mixing methods: the name of each and its block `config.mix`.

METHODS lists them; every classification config takes each of these names as
`:method=NAME`. A new method is one more entry of `_blocks`.
"""

from typing import Any

# The modes that RandomMix chooses from, in the order of its weights.
CANDIDATES = ('mixup', 'cutmix', 'resizemix', 'fmix')


def _blocks(
  weights: tuple[float, ...], alpha: float, image_size: int
) -> dict[str, dict[str, Any]]:
  """Returns the block of every method, with the options its authors publish."""
  random_mix = {
    'name': 'random_mix',
    'candidates': CANDIDATES,
    'weights': weights,
    'alpha': {'mixup': alpha, 'cutmix': alpha, 'fmix': alpha},
    'scale': (0.1, 0.8),
    'method': 'nearest',
    'spectrum': 'isotropic',
    'decay_power': 3.0,
    'max_soft': 0.0,
    'pairing': 'permutation',
    'granularity': 'batch',
  }
  patchup = {
    'name': 'patchup',
    'block_size': 7 if image_size >= 32 else 3,
    'alpha': 2.0,
    'layers': (0, 1, 2),  # the input, outputs of the stem and of stage 1
    'pairing': 'permutation',
  }
  identity = random_mix | {'candidates': ('identity',), 'weights': (1.0,)}
  return {
    'random_mix': random_mix,
    # One mode alone is RandomMix with one candidate.
    **{
      mode: random_mix | {'candidates': (mode,), 'weights': (1.0,)}
      for mode in CANDIDATES
    },
    'saliency_mix': {
      'name': 'saliency_mix',
      'alpha': 1.0,
      'pairing': 'permutation',
      'granularity': 'batch',
    },
    'puzzle_mix': {
      'name': 'puzzle_mix',
      'alpha': 1.0,
      # Blocks along a side, no more than there are pixels.
      'blocks': tuple(n for n in (2, 4, 8, 16) if n <= image_size),
      'levels': 3,
      'label_smoothness': 1.2,
      'data_smoothness': 0.5,
      'prior': 0.2,
      'transport_cost': 0.8,
      'pairing': 'permutation',
      'granularity': 'batch',
    },
    'co_mixup': {
      'name': 'co_mixup',
      'group': 16,
      'grid': 4,
      'concentration': 2,
      'border_cost': 0.32,
      'diversity': 1.0,
      'threshold': 0.83,
      'input_prior': 0.05,
      'sweeps': 4,
    },
    'cutout': identity,  # the hole is config.augment.cutout
    'none': identity,
    'manifold_mixup': {
      'name': 'manifold_mixup',
      'alpha': 2.0,
      'layers': (0, 2, 3),  # the input, outputs of stages 1 and 2
      'pairing': 'permutation',
    },
    'patchup_hard': patchup | {'hard': True, 'probability': 0.7, 'gamma': 0.5},
    'patchup_soft': patchup
    | {'hard': False, 'probability': 1.0, 'gamma': 0.75},
  }


METHODS = tuple(_blocks((), 1.0, 32))


def mix_options(
  method: str, *, weights: tuple[float, ...], alpha: float, image_size: int
) -> dict[str, Any]:
  """Returns the block `config.mix`: a mixing method and its options.

  Args:
    method: one of `METHODS`.
    weights: of each of `CANDIDATES` where the method is RandomMix; their ratio
      counts. Other methods ignore it.
    alpha: Mixup, CutMix and FMix, alone or in RandomMix, draw their ratio from
      Beta(alpha, alpha). Other methods have the alpha of their own papers.
    image_size: pixels along a side; blocks must fit in it.
  """
  return _blocks(weights, alpha, image_size)[method]
