"""Retrieval losses, miners of negatives, and the languages of the test set.

LOSSES and MINERS list the names that the retrieval configs take as
`:loss=NAME` and `:miner=NAME`.
"""

from typing import Any

# The blocks `config.loss`, with the fields that
# `jaxretrieval.training.objective.LOSSES` names. Lengths (eta, margin,
# temperature) are squared distances in units of the mean squared norm of the
# training images, to suit any encoder: the paper's eta of 1100 is about 1.3 of
# it for ResNet-152.
_LOSSES: dict[str, dict[str, Any]] = {
  'info_nce': {
    'name': 'info_nce',
    'temperature': 0.15,
    'symmetric': False,
    'unit': 'mean_square',
  },
  'm3l': {
    'name': 'm3l',
    'objective': 'ratio',
    'rho': 4,
    'alpha1': 0.5,
    'alpha2': 1.0,
  },
  'log_m3l': {
    'name': 'm3l',
    'objective': 'log',
    'rho': 4,
    'alpha1': 0.5,
    'alpha2': 1.0,
  },
  'patr': {
    'name': 'patr',
    'eta': 1.3,
    'unit': 'mean_square',
  },
  'triplet': {
    'name': 'triplet',
    'margin': 0.2,
    'unit': 'mean_square',
  },
}
LOSSES = tuple(_LOSSES)
MINERS = ('topk_random', 'hardest', 'semihard', 'random')

# The languages of table 2 of the cross-lingual paper, in its order.
LANGUAGES = ('en', 'de', 'fr', 'it', 'es', 'ru', 'ja', 'zh', 'pl', 'tr', 'ko')


def loss_options(loss: str) -> dict[str, Any]:
  """Returns the block `config.loss` of one of `LOSSES`."""
  return dict(_LOSSES[loss])
