"""Comparison of examples."""

import pickle

import numpy as np
import pytest


def assert_same(left, right):
  """Asserts equal names, bits and dtypes of arrays."""
  assert left.keys() == right.keys()
  for key in left:
    # Not numpy.testing, which takes ten seconds for CIFAR.
    assert np.array_equal(left[key], right[key]), f'{key} differs'
    assert left[key].dtype == right[key].dtype, f'the dtype of {key} differs'


def check_source(source, arrays, indices):
  """Asserts that a source gives the examples of the arrays."""
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
