"""ResNet-50 on ImageNet with RandomMix, weights [3, 1, 1, 1] and alpha 0.2.

RandomMix, section 3.1.2 and table 2. The paper's numbers, top-1 and top-5
in per cent: none 76.37 93.04, mixup 77.42 93.67,
cutmix 77.32 93.79, fmix 77.27 93.62, resizemix 77.83 93.87,
saliency_mix 77.40 93.69, puzzle_mix 77.69 93.94, random_mix 77.88 93.98.

  python -m launch.main --config=configs/imagenet_resnet50.py --workdir=W \
    --config.data.dir=D

After the name, `:method=` chooses random_mix, mixup, cutmix, resizemix, fmix,
saliency_mix, puzzle_mix, co_mixup, cutout or none, and `:smoke` four steps of
the real model (two minutes on two cores). D is the folder around a prepared
`imagenet2012`; docs/imagenet.md says how it is read. The batch of 2048 is for
eight devices, as in the paper: whatever there are, it is mixed and normalised
in eight parts of 256. On one, scale it and the learning rate:
--config.batch_size=256 --config.virtual_devices=1 --config.optimizer.lr=0.1.

Cost: 24.5 GFLOP an image, 3.1 EFLOP in all (derived: 1.8 hours at half of an
H100's 989 TFLOP/s, which then wants 20,000 images/s from the host; one core
decodes about 1,200). Not yet measured on an accelerator.

The methods manifold_mixup, patchup_hard and patchup_soft mix states of the
network (docs/mixing.md).
"""

from typing import Any

from configs.common import METHODS, classification, parse_arg


def get_config(arg: str | None = None) -> Any:
  """Batch 2048, 100 epochs, SGD from 0.8 by cosine; streamed photographs."""
  choice = parse_arg(arg, smoke=False, method=METHODS)
  config = classification(
    choice,
    data='imagenet',
    model={'name': 'resnet50', 'width': 64, 'dtype': 'bfloat16'},
    weights=(3.0, 1.0, 1.0, 1.0),
  )
  config.optimizer.weight_decay = 4e-5
  if config.mix.name == 'random_mix':
    config.mix.alpha = {'mixup': 0.2, 'cutmix': 0.2, 'fmix': 0.2}
  # Random resized crops are drawn as the photographs are read.
  config.augment.pad = 0
  config.data.feed = 'streamed'
  config.data.workers = 0  # one on each core
  if not choice.smoke:
    config.epochs = 100.0
    config.batch_size = 2048
    config.virtual_devices = 8
    config.batch_norm = 'ghost'
    config.optimizer.lr = 0.8
    config.steps_per_dispatch = 1  # a batch is 308 MB, and some are read ahead
    config.checkpoint_every = 1.0
  return config
