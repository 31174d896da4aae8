"""PreAct-ResNet18 on Tiny-ImageNet with RandomMix, weights [1, 1, 1, 1].

RandomMix, section 3.1.2 and table 2. The paper's numbers, top-1 and top-5
in per cent: none 63.43 83.05, mixup 64.77 84.05,
cutmix 67.72 86.25, fmix 66.18 84.58, resizemix 67.71 86.65,
saliency_mix 65.90 85.13, puzzle_mix 66.65 85.29, random_mix 68.94 86.83.

  python -m launch.main --config=configs/tiny_imagenet_preact.py --workdir=W

After the name, `:method=` chooses random_mix, mixup, cutmix, resizemix, fmix,
saliency_mix, puzzle_mix, co_mixup, cutout or none, and `:smoke` four steps of
the real model (a minute on two cores). The data come from a prepared set, from
--config.data.source=PATH (the publisher's tiny-imagenet-200.zip or its folder)
or, with --config.data.download=True, from the publisher. Decoded they are 1.35
GB, and the pictures to train on lie on the device: 1.23 GB.

The paper does not say how the network takes 64x64. Here the first convolution
has stride 2, our choice: --config.model.stem_stride=1 costs four times as much.
The crop from 4 pixels of padding and the mirroring are those of CIFAR.

Cost: 3.3 GFLOP an image, 67 PFLOP in all (derived: 135 seconds at half of an
H100's 989 TFLOP/s). Not yet measured on an accelerator.

The methods manifold_mixup, patchup_hard and patchup_soft mix states of the
network (docs/mixing.md).
"""

from typing import Any

from configs.common import METHODS, classification, parse_arg


def get_config(arg: str | None = None) -> Any:
  """Batch 256, 200 epochs, SGD from 0.1 by cosine: `common.classification`."""
  return classification(
    parse_arg(arg, smoke=False, method=METHODS),
    data='tiny_imagenet',
    model={
      'name': 'preact_resnet18',
      'width': 64,
      'stem_stride': 2,
      'dtype': 'bfloat16',
    },
    weights=(1.0, 1.0, 1.0, 1.0),
  )
