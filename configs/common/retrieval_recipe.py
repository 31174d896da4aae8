"""The recipe of the cross-lingual paper."""

from typing import Any

from ml_collections import ConfigDict

from configs.common.rhythm import RHYTHM

LOSSES = ('info_nce', 'm3l', 'log_m3l', 'patr', 'triplet')
MINERS = ('topk_random', 'hardest', 'semihard', 'random')


def loss_options(loss: str) -> dict[str, Any]:
  """The block `config.loss`; one of `LOSSES`."""
  if loss in ('m3l', 'log_m3l'):
    return {
      'name': 'm3l',
      'objective': 'ratio' if loss == 'm3l' else 'log',
      'rho': 4,
      'alpha1': 0.5,
      'alpha2': 1.0,
    }
  # Squared lengths, in units of the mean squared norm of the images. The
  # paper's eta, 1100, is about 1.3 of it for ResNet-152.
  length = {
    'patr': {'eta': 1.3},
    'triplet': {'margin': 0.2},
    'info_nce': {'temperature': 0.15, 'symmetric': False},
  }[loss]
  return {'name': loss, **length, 'unit': 'mean_square'}


def retrieval(
  choice: Any,
  *,
  data: str,
  languages: tuple[str, ...],
  evals: dict[str, tuple[str, tuple[str, ...]]],
) -> Any:
  """The recipe of the cross-lingual paper, section 3, every field of it.

  Args:
    choice: `loss` and `smoke`, as `parse_arg` gives them.
    data: the feature set's name.
    languages: to train on.
    evals: for each evaluation a split and the languages of its queries.
  """
  config = ConfigDict()
  config.task = 'jaxretrieval.task'
  config.seed = 0

  config.epochs = 50.0
  config.batch_size = 128
  config.virtual_devices = 1
  config.device_count_invariant = False
  config.optimizer = {
    'name': 'adam',
    'lr': 1e-3,
    'schedule': 'constant',
    'warmup_epochs': 0.0,
    'weight_decay': 0.0,
    'b1': 0.9,
    'b2': 0.999,
  }

  config.model = {
    'hidden': (1024, 2048),
    'dropout': (0.2, 0.1, 0.0),
    'output': 'relu',
    'dtype': 'float32',
    'feature_scale': 'rms',
    'center_text': True,
    'text_noise': 0.0,
    'image_noise': 0.0,
    'output_scale': 'glorot',
    'output_bias': 'zero',
  }
  config.loss = loss_options(choice.loss)
  config.mining = {
    'miner': 'topk_random',
    'ranks': (0, 10),
    'bank': False,
    'exchange': 'gather',
    'block_size': 4096,
  }

  config.data = {
    'name': data,
    'source': '',
    'dir': '',
    'text_encoder': '',
    'split': 'train',
    'languages': languages,
    'sampling': 'image',
    'balance': 'language',
    'train_images': 64 if choice.smoke else 0,
    'on_overlap': 'refuse',
  }
  config.evals = {
    name: {
      'name': '',
      'source': '',
      'dir': '',
      'text_encoder': '',
      'split': split,
      'languages': tested,
    }
    for name, (split, tested) in evals.items()
  }

  config.update(RHYTHM)
  if choice.smoke:
    config.epochs = 1.0
    config.batch_size = 16
    config.steps_per_dispatch = 2
  return config


# The languages of the paper's table 2, in its order.
LANGUAGES = ('en', 'de', 'fr', 'it', 'es', 'ru', 'ja', 'zh', 'pl', 'tr', 'ko')


def follow_paper(config: Any) -> None:
  """Sets what section 3 of the paper prints and our defaults differ in."""
  config.optimizer.b1 = 0.99
  config.model.center_text = False
  config.mining.miner = 'hardest'
