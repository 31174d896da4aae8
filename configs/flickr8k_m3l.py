"""A text head on frozen features of Flickr8k, English captions only.

  python -m launch.main --config=configs/flickr8k_m3l.py \
    --config.data.source=FOLDER --workdir=W

FOLDER holds the captions and the features of both sides, see docs/retrieval.md.
`:loss=` is one of info_nce, m3l, log_m3l, patr, triplet; `:miner=` one of
topk_random, hardest, semihard, random (info_nce takes all pairs and has none);
`:smoke` is four steps. Tuned on the
English captions of the dev split alone.

`sweep` is every loss with every miner, three seeds each:

  python -m launch.sweep --config=configs/flickr8k_m3l.py \
    --config.data.source=FOLDER --workdir=W
  python -m launch.report W
"""

from typing import Any

from configs.common import (
  LOSSES,
  MINERS,
  follow_paper,
  loss_options,
  parse_arg,
  retrieval,
  seeds,
)


def get_config(arg: str | None = None) -> Any:
  """6,000 training images with five captions each; 14 s on two idle cores.

  Few images: a head smaller than the paper's, linear at its end, noise on both
  sides. With batches of 512 negatives are harder than with the paper's 128.
  `:paper` is the paper's recipe, but for the one number that images are divided
  by: M3L as printed with the hardest negatives of 128, Adam with b1 = .99, 50
  epochs.
  """
  choice = parse_arg(arg, smoke=False, paper=False, loss=LOSSES, miner=MINERS)
  config = retrieval(
    choice,
    data='flickr8k',
    languages=('en',),
    evals={
      'dev': ('dev', ('en',)),
      'test': ('test', ('en', 'de', 'fr', 'cs')),
    },
  )
  config.mining.miner = choice.miner
  if choice.paper:
    config.loss = loss_options('m3l')
    follow_paper(config)
    return config

  config.model.hidden = (512, 1024)
  config.model.output = 'linear'
  config.model.output_bias = 'mean_image'
  config.model.text_noise = 0.4
  config.model.image_noise = 0.3
  if not choice.smoke:
    config.epochs = 20.0
    config.batch_size = 512
    config.optimizer.lr = 2e-3
    config.optimizer.schedule = 'cosine'
    config.optimizer.warmup_epochs = 1.7
  return config


def sweep(add: Any, arg: str = '') -> None:
  """InfoNCE takes all pairs of the batch and has no miner."""
  for seed in seeds(arg):
    for loss in LOSSES:
      for miner in MINERS if loss != 'info_nce' else MINERS[:1]:
        add(f'loss={loss},miner={miner}', seed=seed)
    add('loss=info_nce', seed=seed, **{'loss.symmetric': True})
    add('paper', seed=seed)
