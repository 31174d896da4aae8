"""A text head on frozen features of Flickr8k, English captions only.

  python -m launch.main --config=configs/flickr8k_m3l.py \
    --config.data.source=FOLDER --workdir=W

FOLDER holds the captions and the features of both sides, see docs/retrieval.md.
`:loss=` is one of m3l, log_m3l, patr, triplet, info_nce; `:miner=` one of
topk_random, hardest, semihard, random; `:smoke` is four steps. Tuned on the
English captions of the dev split alone.

`sweep` is every loss with every miner, three seeds each:

  python -m launch.sweep --config=configs/flickr8k_m3l.py \
    --config.data.source=FOLDER --workdir=W
  python -m launch.report W
"""

from typing import Any

from configs.common import LOSSES, MINERS, parse_arg, retrieval


def get_config(arg: str | None = None) -> Any:
  """6,000 training images with five captions each."""
  choice = parse_arg(arg, smoke=False, loss=LOSSES, miner=MINERS)
  config = retrieval(
    choice,
    data='flickr8k',
    languages=('en',),
    evals={
      'dev': ('dev', ('en',)),
      'test': ('test', ('en', 'de', 'fr', 'cs')),
    },
  )
  return config


def sweep(add: Any) -> None:
  """InfoNCE takes all pairs of the batch and has no miner."""
  for loss in LOSSES:
    for miner in MINERS if loss != 'info_nce' else MINERS[:1]:
      for seed in range(3):
        add(f'loss={loss},miner={miner}', seed=seed)
