"""Config of a small retrieval run on planted features (config.data.source)."""

from typing import Any

from configs.common import parse_arg, retrieval


def get_config(arg=None) -> Any:
  choice = parse_arg(
    arg, smoke=False, loss=('m3l', 'log_m3l', 'patr', 'triplet', 'info_nce')
  )
  config = retrieval(
    choice,
    data='features',
    languages=('en',),
    evals={'test': ('test', ('en', 'de'))},
  )
  config.model.hidden = (32, 64)
  config.model.dropout = (0.1, 0.0, 0.0)
  config.epochs = 2.0
  config.batch_size = 32
  config.steps_per_dispatch = 4
  config.log_every = 4
  config.eval_every = 1.0
  config.checkpoint_every = 1.0
  config.tensorboard = False
  return config
