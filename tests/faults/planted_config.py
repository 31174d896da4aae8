"""Config of a small retrieval run on planted features (config.data.source)."""

from typing import Any

from configs import retrieval_quickstart
from configs.common import LOSSES, parse_arg


def get_config(arg=None) -> Any:
  choice = parse_arg(arg, loss=('m3l', *LOSSES))
  config = retrieval_quickstart.get_config(f'loss={choice.loss}')
  config.evals.test.languages = ('en', 'de')
  config.model.hidden = (32, 64)
  config.model.dropout = (0.1, 0.0, 0.0)
  config.model.text_noise = 0.0
  config.epochs = 2.0
  config.batch_size = 32
  config.steps_per_dispatch = 4
  config.log_every = 4
  config.eval_every = 1.0
  config.checkpoint_every = 1.0
  config.keep_checkpoints = 2
  return config
