"""Retrieval quickstart: images of three digits, found in eleven languages.

`make retrieval` builds the data, trains and searches, in under five minutes on
two CPU cores and without a download. With the data there, the training is

  python -m launch.main --config=configs/retrieval_quickstart.py --workdir=W \
    --config.data.source=runs/numbers/set

`:loss=` takes the names of configs/common/retrieval_losses.py (default:
log_m3l), and `:smoke` runs four steps.

Data: an image is three of scikit-learn's handwritten digits side by side, its
captions are `four two seven`, `vier zwei sieben` and so on (examples/numbers.py
makes them). The head sees English captions of 800 numbers and is tested on 200
others in the eleven languages of the cross-lingual paper.

Cost: 20 seconds on two CPU cores.

The loss is the paper's M3L, as a logarithm. With ten English words to learn
from, a head that fits them closely takes any other language for noise: so
training is short and has a lot of noise. Both were chosen on 100 numbers of the
train split, in English and six other languages.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import LANGUAGES, LOSSES, loss_options, parse_arg


def get_config(arg: str | None = None) -> Any:
  """Returns the config for `arg`, such as 'loss=patr'."""
  choice = parse_arg(arg, smoke=False, loss=('log_m3l', *LOSSES))
  config = ConfigDict()
  config.task = 'jaxretrieval.task'
  config.seed = 0

  config.data = {
    'name': 'features',
    'source': '',  # a feature set
    'dir': '',  # of prepared feature sets; empty: ~/tensorflow_datasets
    'text_encoder': '',
    'split': 'train',
    'languages': ('en',),
    'sampling': 'image',  # one caption is drawn at each visit of an image
    'balance': 'language',  # the language first, then one of its captions
    'train_images': 0,  # 0: all
    'on_overlap': 'refuse',  # error if a training image is also evaluated on
  }

  config.model = {
    'hidden': (1024, 2048),
    'dropout': (0.2, 0.1, 0.0),
    'output': 'relu',
    'dtype': 'float32',
    'feature_scale': 'rms',  # images divided by their root mean square length
    'center_text': True,  # subtract the mean training text
    'text_noise': 2.0,  # its length relative to the features
    'image_noise': 0.0,
    'output_scale': 'glorot',
    'output_bias': 'zero',
  }

  config.epochs = 6.0
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

  config.loss = loss_options(choice.loss)
  config.mining = {
    'miner': 'topk_random',
    'ranks': (0, 10),  # of topk_random: one of the ten nearest
    'bank': False,  # negatives of the batch, not of all images
    'exchange': 'gather',
    'block_size': 4096,  # distances are taken in blocks of this size
  }

  config.evals = {
    'test': {
      'name': '',  # empty: the set of config.data
      'source': '',
      'dir': '',
      'text_encoder': '',
      'split': 'test',
      'languages': LANGUAGES,
    },
  }
  config.eval_every = 3.0  # epochs

  config.log_every = 96  # steps
  config.steps_per_dispatch = 32  # one loop on the device
  config.checkpoint_every = 3.0  # epochs
  config.keep_checkpoints = 1
  config.max_save_failures = 3  # in a row; then the run ends
  config.max_skipped_steps = 0  # in a row, for a loss that is not finite
  config.tensorboard = False

  if choice.smoke:
    config.update(
      data={'train_images': 64},
      epochs=1.0,
      batch_size=16,
      steps_per_dispatch=2,
    )
  return config
