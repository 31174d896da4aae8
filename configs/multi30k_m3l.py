"""Table 3 of the cross-lingual paper: Multi30K, one language or three.

  python -m launch.main --config=configs/multi30k_m3l.py \
    --config.data.source=FOLDER --workdir=W

FOLDER holds the captions and the features of both sides, see docs/retrieval.md.
`:train=en` (the default) or `:train=en,de,fr`; `:loss=` is one of m3l, log_m3l,
patr, triplet, info_nce; `:smoke` is four steps.

The paper, R@10 with mUSE and M3L: trained on en 59.1 / 48.8 / 54.8 in en / de /
fr, on en, de, fr 58.1 / 52.2 / 57.2. Ours: not run, as the pictures are given
out on request only.

`sweep` is these two rows, three seeds each:

  python -m launch.sweep --config=configs/multi30k_m3l.py \
    --config.data.source=FOLDER --workdir=W
  python -m launch.report W
"""

from typing import Any

from configs.common import follow_paper, parse_arg, retrieval, seeds

LOSSES = ('m3l', 'log_m3l', 'patr', 'triplet', 'info_nce')


def get_config(arg: str | None = None) -> Any:
  """29,000 training images with one caption in each language.

  With several languages one is drawn at each visit of an image, all alike.
  """
  choice = parse_arg(arg, smoke=False, loss=LOSSES, train=['en'])
  config = retrieval(
    choice,
    data='multi30k',
    languages=tuple(choice.train),
    evals={
      'val': ('val', ('en',)),
      'test': ('test', ('en', 'de', 'fr', 'cs')),
    },
  )
  # Each caption is seen 50 times.
  config.epochs = 1.0 if choice.smoke else 50.0 * len(choice.train)
  follow_paper(config)
  return config


def sweep(add: Any, arg: str = '') -> None:
  """Our two rows of the table."""
  for train in ('en', 'en,de,fr'):
    for seed in seeds(arg):
      add(f'train={train}', seed=seed)
