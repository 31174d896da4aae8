"""Handwritten numbers found by their captions in eleven languages.

No download, real pictures: three of scikit-learn's handwritten digits in a row,
captioned `four two seven`. Trained on English captions alone:

  make retrieval

makes the features (`python -m examples.numbers`, two minutes), trains (seconds)
and shows the table and a sheet of answers.
"""

from typing import Any

from configs.common import LOSSES, MINERS, parse_arg, retrieval

LANGUAGES = ('en', 'de', 'fr', 'it', 'es', 'ru', 'ja', 'zh', 'pl', 'tr', 'ko')


def get_config(arg: str | None = None) -> Any:
  """3,200 training pictures of 800 numbers; 200 test pictures of 200 others."""
  choice = parse_arg(arg, smoke=False, loss=LOSSES, miner=MINERS)
  config = retrieval(
    choice,
    data='features',
    languages=('en',),
    evals={'test': ('test', LANGUAGES)},
  )
  if not choice.smoke:
    config.epochs = 20.0
  config.tensorboard = False
  return config
