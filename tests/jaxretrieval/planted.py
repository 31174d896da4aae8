"""A small synthetic feature set in which texts and images share a latent.

Image features are as pooled ReLU features are: 0 or more, with a mean squared
norm of about 800. Texts are of two languages, the second a little off.
"""

import numpy as np

from configs import common, retrieval_quickstart
from jaxretrieval.feature_sets import captions, feature_set

ENCODERS = feature_set.Encoders('planted images, 1', 'planted texts, 1')
IMAGE_DIM, TEXT_DIM, MEANING = 96, 32, 8


def splits(*, train=512, test=128, seed=0, first_id=0):
  """Splits `train` and `test`, with two English captions and a German one."""
  rng = np.random.default_rng(seed)
  to_image = rng.normal(size=(MEANING, IMAGE_DIM))
  to_text = rng.normal(size=(MEANING, TEXT_DIM)) / np.sqrt(MEANING)
  offset = rng.normal(size=TEXT_DIM) / 8

  def split(count, start):
    meaning = rng.normal(size=(count, MEANING))
    images = np.maximum(meaning @ to_image + 1, 0) * 1.2
    texts = np.repeat(meaning @ to_text, 3, axis=0)
    texts += rng.normal(size=texts.shape) / 20
    texts[2::3] += offset
    ids = start + np.arange(count)
    built = captions.build(
      ids,
      [f'{i}.jpg' for i in ids],
      [
        (row, language, f'{name} {start + row}')
        for row in range(count)
        for language, name in [('en', 'one'), ('en', 'two'), ('de', 'eins')]
      ],
    )
    return feature_set.Split(
      built, images.astype(np.float16), texts.astype(np.float16)
    )

  return {
    'train': split(train, first_id),
    'test': split(test, first_id + train),
  }


def write(root, **options):
  """Writes the set; returns its folder."""
  return feature_set.write(
    root,
    'planted',
    namespace='planted',
    encoders=ENCODERS,
    licence='none',
    splits=splits(**options),
  )


def config(folder, arg='', **fields):
  """Returns `retrieval_quickstart` on the planted set, small, without noise."""
  choice = common.parse_arg(arg, loss=common.LOSSES, miner=common.MINERS)
  result = retrieval_quickstart.get_config(f'loss={choice.loss}')
  small = {
    'mining.miner': choice.miner,
    'keep_checkpoints': 2,
    'evals.test.languages': ('en', 'de'),
    'model.text_noise': 0.0,
    'data.source': str(folder),
    'epochs': 4.0,
    'batch_size': 32,
    'steps_per_dispatch': 4,
    'log_every': 4,
    'eval_every': 2.0,
    'checkpoint_every': 1.0,
    'tensorboard': False,
    'model.hidden': (64, 128),
  }
  result.update_from_flattened_dict(small | fields)
  return result.lock()
