"""Tests of the Potts model, against dynamic programming."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmix._src.guided.potts import label_grid, potts_energy

N, CLASSES = 4, 6
label = jax.jit(label_grid)


def problems(count, classes=CLASSES):
  """Returns problems like those of Co-Mixup: saliency and expensive labels."""
  rng = np.random.default_rng(0)
  saliency = rng.gamma(1, 1, (count, N, N, classes)) ** 1.5
  saliency /= saliency.sum((1, 2), keepdims=True)
  expensive = 1.7 * (rng.random((count, 1, 1, classes)) < 0.5)
  start = rng.integers(0, classes, (count, N, N)).astype(np.int32)
  return (expensive - saliency).astype(np.float32), start


def numpy_energy(unary, border, labels):
  """Block by block, in float64."""
  total = np.zeros(len(unary))
  for b, i, j in np.ndindex(len(unary), N, N):
    total[b] += unary[b, i, j, labels[b, i, j]]
    total[b] += border * (i > 0 and labels[b, i, j] != labels[b, i - 1, j])
    total[b] += border * (j > 0 and labels[b, i, j] != labels[b, i, j - 1])
  return total


def least_energy(unary, border):
  """The optimum of one problem: dynamic programming over the last row.

  Axis j of `cost` is the label of the block last seen in column j.
  """
  classes = unary.shape[-1]
  cost, differ = np.zeros((1,) * N), border * (1 - np.eye(classes))
  for i, j in itertools.product(range(N), range(N)):
    own = unary[i, j].astype(float).reshape([-1] + [1] * (N - 1))
    if i == 0:
      new = own + np.moveaxis(cost, j, 0)
    else:
      above = np.moveaxis(cost, j, 0)
      new = own + np.min(
        differ.reshape(classes, classes, *[1] * (N - 1)) + above[None], axis=1
      )
    cost = np.moveaxis(new, 0, j)
    if j:
      shape = [1] * N
      shape[j - 1] = shape[j] = classes
      cost = cost + differ.reshape(shape)
  return np.min(cost)


@functools.cache
def solved(border):
  unary, start = problems(16)
  return unary, np.asarray(label(unary, border / N**2, start))


def test_the_energy_is_that_of_the_definition():
  unary, start = problems(16)
  found = potts_energy(jnp.asarray(unary), 0.3, jnp.asarray(start))
  np.testing.assert_allclose(found, numpy_energy(unary, 0.3, start), rtol=1e-5)


@pytest.mark.parametrize('border, most', [(0.0, 1e-6), (0.32, 2e-3), (1, 0.02)])
def test_labels_are_almost_optimal(border, most):
  # Measured: 0, 0.0008 and 0.016 of the optimum, in the mean.
  unary, labels = solved(border)
  found = numpy_energy(unary, border / N**2, labels)
  least = np.array([least_energy(one, border / N**2) for one in unary])
  assert (found > least - 1e-5).all(), 'less than the least'
  assert np.mean((found - least) / np.abs(least)) < most
  # The oracle by another way: of two labels each block tries both.
  few = problems(2, 2)[0]
  every = np.array(list(itertools.product((0, 1), repeat=N * N)))
  every = every.reshape(-1, N, N)
  for one in few:
    whole = np.broadcast_to(one, (len(every), *one.shape))
    want = np.min(numpy_energy_of_many(whole, border, every))
    assert least_energy(one, border) == pytest.approx(want)


def numpy_energy_of_many(unary, border, labels):
  row, column = np.indices((N, N))
  number = np.arange(len(labels))[:, None, None]
  own = unary[number, row, column, labels].astype(float).sum((1, 2))
  borders = (np.diff(labels, axis=1) != 0).sum((1, 2))
  return own + border * (borders + (np.diff(labels, axis=2) != 0).sum((1, 2)))


def test_no_single_block_can_be_improved():
  unary, labels = solved(0.32)
  least = numpy_energy(unary, 0.32 / N**2, labels)
  for i, j, value in itertools.product(range(N), range(N), range(CLASSES)):
    other = labels.copy()
    other[:, i, j] = value
    found = numpy_energy(unary, 0.32 / N**2, other)
    assert np.mean(found > least - 1e-5) > 0.9
