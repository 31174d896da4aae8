"""Small synthetic feature sets for tests, with random features."""

import numpy as np

from jaxretrieval.feature_sets import captions, feature_set

ENCODERS = feature_set.Encoders('eye 1, resize 8', 'ear 1, mean')


def split(images=6, first_id=100, languages=('en', 'en', 'de'), seed=0):
  """A split whose captions are all different; dims 4 and 3."""
  rng = np.random.default_rng(seed)
  rows = [
    (i, code, f'{code} caption {k} of {first_id + i}')
    for i in range(images)
    for k, code in enumerate(languages)
  ]
  ids = range(first_id, first_id + images)
  return feature_set.Split(
    captions.build(list(ids), [f'{i}.jpg' for i in ids], rows),
    rng.normal(size=(images, 4)).astype(np.float32),
    rng.normal(size=(len(rows), 3)).astype(np.float32),
  )


def write(root, name='toy', **options):
  """Writes `split()` as train and another as test, unless told otherwise."""
  usual = {
    'namespace': 'toy',
    'encoders': ENCODERS,
    'licence': 'none',
    'splits': {'train': split(), 'test': split(2, 200, seed=1)},
  }
  return feature_set.write(root, name, **(usual | options))
