"""What it means for examples to be the same."""

import pickle

import numpy as np
import pytest


def assert_same(left, right):
  """The same arrays by name, bits and dtypes."""
  assert left.keys() == right.keys()
  for key in left:
    # Not numpy.testing: ten seconds for CIFAR.
    assert np.array_equal(left[key], right[key]), f'{key} differs'
    assert left[key].dtype == right[key].dtype, f'the dtype of {key} differs'


def check_source(source, arrays, indices):
  """A source shows what the arrays hold, one by one and many at once."""
  assert len(source) == len(arrays['label'])
  examples = [source[i] for i in indices]
  for example, bulk in zip(examples, source.__getitems__(indices), strict=True):
    assert_same(example, bulk)
  stacked = {k: np.stack([e[k] for e in examples]) for k in examples[0]}
  assert_same(stacked, {k: v[indices] for k, v in arrays.items()})
  assert source.__getitems__([]) == []
  with pytest.raises(IndexError):
    source[len(source)]
  assert_same(pickle.loads(pickle.dumps(source))[1], source[1])
