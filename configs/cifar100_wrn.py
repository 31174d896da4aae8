"""WideResNet-28-10 on CIFAR-100 with RandomMix, weights [3, 1, 1, 1].

RandomMix, table 1 (lower half). The paper's numbers, top-1
in per cent: none 80.87, mixup 82.61, cutmix 82.34, fmix 81.78,
resizemix 83.00, random_mix 84.84. Tables 4 and 5 give 84.84 to the weights
[4, 1, 1, 1] and 84.49 to these, so do not take 84.84 as the target.

  python -m launch.main --config=configs/cifar100_wrn.py --workdir=W

After the name, `:method=` chooses random_mix, mixup, cutmix, resizemix, fmix,
saliency_mix, puzzle_mix, co_mixup, cutout or none, and `:smoke` four steps of
the real model (a minute on two cores). The data come from a prepared TFDS data
set, from --config.data.source=PATH (the publisher's binary archive or its
folder) or, with --config.data.download=True, from the publisher.

Cost: 31.5 GFLOP an image, 315 PFLOP in all (derived: 11 minutes at
half of an H100's 989 TFLOP/s). Not yet measured on an accelerator; on two
CPU cores about 8 images/s, so only `:smoke` makes sense there.

The methods manifold_mixup, patchup_hard and patchup_soft mix states of the
network (docs/mixing.md).
"""

from typing import Any

from configs.common import METHODS, classification, parse_arg


def get_config(arg: str | None = None) -> Any:
  """Batch 256, 200 epochs, SGD from 0.1 by cosine: `common.classification`."""
  return classification(
    parse_arg(arg, smoke=False, method=METHODS),
    data='cifar100',
    model={
      'name': 'wide_resnet',
      'depth': 28,
      'width': 10,
      'stem_stride': 1,
      'dtype': 'bfloat16',
    },
    weights=(3.0, 1.0, 1.0, 1.0),
  )
