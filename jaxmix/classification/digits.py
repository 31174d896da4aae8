"""The 1,797 handwritten digits of scikit-learn, 8x8."""

from typing import Any

import numpy as np


def load(split: str) -> dict[str, np.ndarray]:
  """Both arrays of a split, as `data.load`, pixels scaled to 0..255.

  They have no official split. Ours: examples in order of class (and of the
  file within a class); every fifth, from the first, is a test example. That is
  1,437 train and 360 test examples, 35 to 37 test examples a class.
  """
  from sklearn.datasets import load_digits

  digits: Any = load_digits()
  is_test = np.zeros(len(digits.target), bool)
  is_test[np.argsort(digits.target, kind='stable')[::5]] = True
  keep = np.flatnonzero(is_test == (split == 'test'))
  if len(is_test) != 1797:
    raise ValueError(f'scikit-learn has {len(is_test)} digits, expected 1797')
  images = np.round(digits.images[keep] * (255 / 16)).astype(np.uint8)
  return {'image': images[..., None], 'label': digits.target[keep].astype('i4')}
