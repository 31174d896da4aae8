"""Table 2 of the cross-lingual paper: COCO in English, tested in 11 languages.

  python -m launch.main --config=configs/coco_m3l.py --workdir=W \
    --config.data.source=COCO --config.evals.xtd10.source=XTD10

COCO and XTD10 are folders with the captions and the features of both sides, see
docs/retrieval.md. `:loss=` is m3l or patr, `:text=` muse or laser, `:smoke` is
four steps. The 800 images that XTD10 shares with train2014 are left out.

The paper, R@10 of mUSE with M3L: en 85.3, mean of the other ten 73.9. Ours: not
run, as neither the encoders nor the pictures could be had; 161,700 steps of
128, about half a minute of an H100 by its memory traffic.

`sweep` is the four rows of the table, three seeds each. It finds the sets of
both text encoders in --config.data.dir, where the command above leaves them:

  python -m launch.sweep --config=configs/coco_m3l.py --workdir=W
  python -m launch.report W
"""

from typing import Any

from configs.common import LANGUAGES, follow_paper, parse_arg, retrieval, seeds


def get_config(arg: str | None = None) -> Any:
  """The recipe as printed, but for the one number that images are divided by.

  `--config.model.feature_scale=none` and `--config.loss.unit=raw
  --config.loss.eta=1100` are the paper's own units.
  """
  choice = parse_arg(
    arg, smoke=False, loss=('m3l', 'patr'), text=('muse', 'laser')
  )
  config = retrieval(
    choice,
    data='coco_captions',
    languages=('en',),
    evals={'val': ('val', ('en',)), 'xtd10': ('test', LANGUAGES)},
  )
  follow_paper(config)

  # One of five captions is drawn at each visit of an image: each is seen 50
  # times, and no batch holds an image twice.
  config.epochs = 1.0 if choice.smoke else 250.0

  config.data.text_encoder = choice.text
  config.data.on_overlap = 'drop'
  config.evals.xtd10.name = 'xtd10'
  config.evals.xtd10.text_encoder = choice.text
  return config


def sweep(add: Any, arg: str = '') -> None:
  """LASER and mUSE by PATR and M3L."""
  for text in ('laser', 'muse'):
    for loss in ('patr', 'm3l'):
      for seed in seeds(arg):
        add(f'text={text},loss={loss}', seed=seed)
