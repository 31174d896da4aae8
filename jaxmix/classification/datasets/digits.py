"""Reader of scikit-learn's 1,797 handwritten digits of 8x8 pixels."""

import importlib.util
import pathlib

import numpy as np


def load(split: str) -> dict[str, np.ndarray]:
  """Returns the arrays of a split, see `splits.load`; pixels are 0..255.

  There is no official split. Ours: with the examples in order of class (and of
  the file within a class), every fifth, from the first, is a test example. That
  gives 1,437 train and 360 test examples, 35 to 37 test examples per class.

  Raises:
    ModuleNotFoundError: scikit-learn is not installed.
    ValueError: its file has another shape, or other labels.
  """
  # Only its file is read: importing scikit-learn takes longer than everything
  # else before the first step.
  package = importlib.util.find_spec('sklearn')
  if package is None or package.origin is None:
    raise ModuleNotFoundError(
      "config.data.name='digits' needs scikit-learn: pip install -e "
      "'.[train]' in a clone, or pip install 'randommix[train]'",
      name='sklearn',
    )
  path = pathlib.Path(package.origin).parent / 'datasets/data/digits.csv.gz'
  table = np.loadtxt(path, np.int32, delimiter=',')
  if table.shape != (1797, 65):
    raise ValueError(f'{path} has shape {table.shape}, expected (1797, 65)')
  pixels, labels = table[:, :64].reshape(-1, 8, 8, 1), table[:, 64]
  if not np.isin(labels, range(10)).all():
    raise ValueError(f'{path} has labels outside of 0..9')
  is_test = np.zeros(len(labels), bool)
  is_test[np.argsort(labels, kind='stable')[::5]] = True
  keep = np.flatnonzero(is_test == (split == 'test'))
  images = np.round(pixels[keep] * (255 / 16)).astype(np.uint8)
  return {'image': images, 'label': labels[keep].copy()}
