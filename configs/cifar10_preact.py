"""PreAct-ResNet18 on CIFAR-10 with RandomMix, weights [1, 1, 1, 1].

RandomMix, table 1 (lower half). The paper's numbers, top-1
in per cent: none 95.18, mixup 96.15, cutmix 96.43, fmix 96.46,
resizemix 96.69, random_mix 97.22.

  python -m launch.main --config=configs/cifar10_preact.py --workdir=W

After the name, `:method=` chooses random_mix, mixup, cutmix, resizemix, fmix,
saliency_mix, puzzle_mix, co_mixup, cutout or none, and `:smoke` four steps of
the real model (a minute on two cores). The data come from a prepared TFDS data
set, from --config.data.source=PATH (the publisher's binary archive or its
folder) or, with --config.data.download=True, from the publisher.

Cost: 3.3 GFLOP an image, 33 PFLOP in all (derived: 67 seconds at half of
an H100's 989 TFLOP/s). Not yet measured on an accelerator; on two CPU cores
about 50 images/s, so take a narrow one there, --config.model.width=16.

The methods manifold_mixup, patchup_hard and patchup_soft mix states of the
network (docs/mixing.md).
"""

from typing import Any

from configs.common import METHODS, classification, parse_arg


def get_config(arg: str | None = None) -> Any:
  """Batch 256, 200 epochs, SGD from 0.1 by cosine: `common.classification`."""
  return classification(
    parse_arg(arg, smoke=False, method=METHODS),
    data='cifar10',
    model={
      'name': 'preact_resnet18',
      'width': 64,
      'stem_stride': 1,
      'dtype': 'bfloat16',
    },
    weights=(1.0, 1.0, 1.0, 1.0),
  )
