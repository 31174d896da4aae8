"""The 1,797 handwritten digits of scikit-learn, 8x8."""

import importlib.util
import pathlib

import numpy as np


def load(split: str) -> dict[str, np.ndarray]:
  """Both arrays of a split, as `data.load`, pixels scaled to 0..255.

  They have no official split. Ours: examples in order of class (and of the
  file within a class); every fifth, from the first, is a test example. That is
  1,437 train and 360 test examples, 35 to 37 test examples a class.

  Raises:
    ModuleNotFoundError: scikit-learn is missing.
    ValueError: its digits are others.
  """
  # Its file alone: importing it takes longer than all else before a first step.
  package = importlib.util.find_spec('sklearn')
  if package is None or package.origin is None:
    raise ModuleNotFoundError('the digits need scikit-learn', name='sklearn')
  path = pathlib.Path(package.origin).parent / 'datasets/data/digits.csv.gz'
  table = np.loadtxt(path, np.int32, delimiter=',')
  if table.shape != (1797, 65):
    raise ValueError(f'{path} holds {table.shape}, expected 1797 digits')
  pixels, labels = table[:, :64].reshape(-1, 8, 8, 1), table[:, 64]
  is_test = np.zeros(len(labels), bool)
  is_test[np.argsort(labels, kind='stable')[::5]] = True
  keep = np.flatnonzero(is_test == (split == 'test'))
  images = np.round(pixels[keep] * (255 / 16)).astype(np.uint8)
  return {'image': images, 'label': labels[keep].copy()}
