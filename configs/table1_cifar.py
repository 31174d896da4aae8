"""Table 1 of RandomMix: CIFAR-10 and CIFAR-100, two networks.

  python -m launch.sweep --config=configs/table1_cifar.py --workdir=W \
    --config.data.dir=D
  python -m launch.report W

D holds both data sets, prepared: `launch.main` with `cifar10_preact` and
`cifar100_preact` leaves them there. Each row is one of `cifar10_preact`,
`cifar10_wrn`, `cifar100_preact` and `cifar100_wrn` by one method, three seeds;
their headers have the cost. The report has the paper's numbers beside ours; it
quotes its rows of Cutout, Manifold Mixup, PatchUp and Co-Mixup from others.
Those of manifold_mixup and patchup_hard are trained by this recipe all the same
(patchup_soft, which has no number, is one row to be asked for).

One row, of `:data=` cifar10 or cifar100, `:model=` preact or wrn and `:method=`
random_mix, mixup, cutmix, resizemix, fmix, saliency_mix, puzzle_mix, co_mixup,
manifold_mixup, patchup_hard, patchup_soft, cutout or none:

  python -m launch.main --config=configs/table1_cifar.py --workdir=W

`:smoke` is four steps of each with narrow networks and one seed, 40 rows.
"""

from typing import Any

from configs.common import METHODS, classification, parse_arg, seeds

MODELS = {
  'preact': {
    'name': 'preact_resnet18',
    'width': 64,
    'stem_stride': 1,
    'dtype': 'bfloat16',
  },
  'wrn': {
    'name': 'wide_resnet',
    'depth': 28,
    'width': 10,
    'stem_stride': 1,
    'dtype': 'bfloat16',
  },
}

# Top-1 in per cent: CIFAR-10 and CIFAR-100 with PreAct-ResNet18,
# then with WideResNet-28-10.
_TOP1 = {
  'none': (95.18, 77.55, 96.28, 80.87),
  'mixup': (96.15, 79.49, 97.23, 82.61),
  'cutmix': (96.43, 79.73, 97.06, 82.34),
  'fmix': (96.46, 79.45, 97.02, 81.78),
  'resizemix': (96.69, 80.66, 97.48, 83.00),
  'saliency_mix': (96.28, 80.01, 96.87, 81.95),
  'puzzle_mix': (96.82, 80.68, 97.51, 83.71),
  'random_mix': (97.22, 82.14, 98.02, 84.84),
}
# Quoted by the paper, upper half, from runs of another recipe: PatchUp's code
# trains PreAct-ResNet18 for 2000 epochs and WideResNet for 400. Whether PatchUp
# is hard or soft it does not say; its own paper prefers hard.
_QUOTED = {
  'manifold_mixup': (97.05, 79.66, 97.45, 81.96),
  'patchup_hard': (97.08, 80.88, 97.47, 82.30),
}
PAPER = {
  f'model={model},data={data},method={method}': {'clean/top1': top1 / 100}
  for method, numbers in (_TOP1 | _QUOTED).items()
  for (model, data), top1 in zip(
    [(m, d) for m in MODELS for d in ('cifar10', 'cifar100')],
    numbers,
    strict=True,
  )
}
NOTE = (
  'The paper quotes the rows of manifold_mixup and patchup_hard from runs of '
  'another recipe: 2000 epochs of PreAct-ResNet18, 400 of WideResNet.'
)
BASELINE = 'method=none'


def get_config(arg: str | None = None) -> Any:
  """The recipe of section 3.1.1; WideResNet has Mixup at a weight of 3."""
  choice = parse_arg(
    arg,
    smoke=False,
    data=('cifar100', 'cifar10'),
    model=tuple(MODELS),
    method=METHODS,
  )
  model = dict(MODELS[choice.model])
  if choice.smoke:
    model['width'] = 8 if choice.model == 'preact' else 1
  return classification(
    choice,
    data=choice.data,
    model=model,
    weights=(3.0 if choice.model == 'wrn' else 1.0, 1.0, 1.0, 1.0),
  )


def sweep(add: Any, arg: str = '') -> None:
  """The rows of the lower half, and the two that are quoted."""
  for row in PAPER:
    for seed in seeds(arg):
      add(row, seed=seed)
