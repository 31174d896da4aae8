"""Table 3 of the cross-lingual paper: Multi30K, training in 1 or 3 languages.

  python -m launch.main --config=configs/multi30k_m3l.py --workdir=W \
    --config.data.source=FOLDER

trains one run. `:train=en,de,fr` takes three languages (default: en), `:loss=`
the names of configs/common/retrieval_losses.py (default: m3l), and `:smoke`
runs four steps. One language and three, three seeds each:

  python -m launch.sweep --config=configs/multi30k_m3l.py --workdir=W \
    --config.data.source=FOLDER
  python -m launch.report W

Data: FOLDER has the captions and the features of images and texts, see
docs/retrieval.md. 29,000 training images with one caption in each language.

Cost: not measured. Not run: the images are given out on request only.

Paper, R@10 of mUSE with M3L in en / de / fr: trained on en 59.1 / 48.8 / 54.8,
on en, de, fr 58.1 / 52.2 / 57.2.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import LOSSES, loss_options, parse_arg, seeds


def get_config(arg: str | None = None) -> Any:
  """Returns the config of section 3 for `arg`, such as 'train=en,de,fr'."""
  choice = parse_arg(arg, smoke=False, loss=('m3l', *LOSSES), train=['en'])
  config = ConfigDict()
  config.task = 'jaxretrieval.task'
  config.seed = 0

  config.data = {
    'name': 'multi30k',
    'source': '',  # captions and features, or a feature set
    'dir': '',  # of prepared feature sets; empty: ~/tensorflow_datasets
    'text_encoder': '',
    'split': 'train',
    'languages': tuple(choice.train),
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
    'center_text': False,
    'text_noise': 0.0,
    'image_noise': 0.0,
    'output_scale': 'glorot',
    'output_bias': 'zero',
  }

  config.epochs = 50.0 * len(choice.train)  # each caption is seen 50 times
  config.batch_size = 128
  config.virtual_devices = 1
  config.device_count_invariant = False

  config.optimizer = {
    'name': 'adam',
    'lr': 1e-3,
    'schedule': 'constant',
    'warmup_epochs': 0.0,
    'weight_decay': 0.0,
    'b1': 0.99,  # the paper's
    'b2': 0.999,
  }

  config.loss = loss_options(choice.loss)
  config.mining = {
    'miner': 'hardest',  # the paper's
    'ranks': (0, 10),  # read by topk_random only
    'bank': False,  # negatives of the batch, not of all images
    'exchange': 'gather',
    'block_size': 4096,  # distances are taken in blocks of this size
  }

  config.evals = {
    'val': {
      'name': '',  # empty: the set of config.data
      'source': '',
      'dir': '',
      'text_encoder': '',
      'split': 'val',
      'languages': ('en',),
    },
    'test': {
      'name': '',  # empty: the set of config.data
      'source': '',
      'dir': '',
      'text_encoder': '',
      'split': 'test',
      'languages': ('en', 'de', 'fr', 'cs'),
    },
  }
  config.eval_every = 5.0  # epochs

  config.log_every = 96  # steps
  config.steps_per_dispatch = 32  # one loop on the device
  config.checkpoint_every = 5.0  # epochs
  config.keep_checkpoints = 2
  config.max_save_failures = 3  # in a row; then the run ends
  config.max_skipped_steps = 0  # in a row, for a loss that is not finite
  config.tensorboard = True

  if choice.smoke:
    config.update(
      data={'train_images': 64},
      epochs=1.0,
      batch_size=16,
      steps_per_dispatch=2,
    )
  return config


def sweep(add: Any, arg: str = '') -> None:
  """Adds one training language and three, three seeds each."""
  for train in ('en', 'en,de,fr'):
    for seed in seeds(arg):
      add(f'train={train}', seed=seed)
