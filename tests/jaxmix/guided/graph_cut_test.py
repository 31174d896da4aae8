"""Tests of the graph cut, against brute force and scipy's maximum flow."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from jaxmix._src.guided.graph_cut import Costs, cut, energy


def problems(rng, count, n, levels, strength):
  """Random costs; the higher `strength`, the larger the regions."""
  # Neighbouring blocks like the same, as in images.
  like = rng.normal(size=(count, n + 2, n + 2, levels))
  smooth = sum(
    like[:, i : i + n, j : j + n] for i in range(3) for j in range(3)
  )
  unary = 0.5 * smooth / 3 + 0.5 * like[:, 1:-1, 1:-1]
  down = strength * rng.uniform(0.5, 1.5, (count, n - 1, n))
  right = strength * rng.uniform(0.5, 1.5, (count, n, n - 1))
  return tuple(x.astype(np.float32) for x in (unary, down, right))


def as_costs(arrays):
  return Costs(*map(jnp.asarray, arrays))


def numpy_energy(costs, labels):
  """By its definition, in float64, pair by pair."""
  unary, down, right = (np.asarray(x, float) for x in costs)
  count, n, _, levels = unary.shape
  result = np.zeros(count)
  z = labels / (levels - 1)
  for b, i, j in itertools.product(range(count), range(n), range(n)):
    result[b] += unary[b, i, j, labels[b, i, j]]
    if i + 1 < n:
      result[b] += down[b, i, j] * (z[b, i, j] - z[b, i + 1, j]) ** 2
    if j + 1 < n:
      result[b] += right[b, i, j] * (z[b, i, j] - z[b, i, j + 1]) ** 2
  return result


def brute_force(costs):
  """The least energy over all labellings."""
  unary, down, right = (np.asarray(x, float) for x in costs)
  count, n, _, levels = unary.shape
  every = np.array(list(itertools.product(range(levels), repeat=n * n)))
  every = every.reshape(-1, n, n)
  z = every / (levels - 1)
  row, column = np.indices((n, n))
  vertical, horizontal = np.diff(z, axis=1) ** 2, np.diff(z, axis=2) ** 2
  return np.array(
    [
      np.min(
        unary[b, row, column, every].sum((1, 2))
        + (down[b] * vertical).sum((1, 2))
        + (right[b] * horizontal).sum((1, 2))
      )
      for b in range(count)
    ]
  )


def minimal_cut(unary, down, right):
  """The optimal labels of one problem, by scipy's maximum flow.

  Ishikawa's graph for 2 or 3 labels: node (block, k) is on the side of the
  source if the label exceeds k.
  """
  n, _, levels = unary.shape
  above = levels - 1
  node = np.arange(n * n * above).reshape(n, n, above)
  slope = np.diff(unary.astype(float), axis=-1)
  edges = []
  places = list(itertools.product(range(n), range(n)))
  pairs = [((i, j), (i + 1, j), down[i, j]) for i, j in places if i + 1 < n]
  pairs += [((i, j), (i, j + 1), right[i, j]) for i, j in places if j + 1 < n]
  for a, b, weight in pairs:
    weight = float(weight) / above**2
    for k, m in itertools.product(range(above), range(above)):
      edges += [(node[*a, k], node[*b, m], weight)]
      edges += [(node[*b, m], node[*a, k], weight)]
    if above == 2:  # (z - w)^2 counts what differs within a block once too much
      for block in (a, b):
        slope[*block, 0] -= weight
        slope[*block, 1] += weight
  if above == 2:
    edges += [(node[*p, 1], node[*p, 0], 1e3) for p in places]
  source, sink = node.size, node.size + 1
  for p in places:
    for k in range(above):
      cost = slope[*p, k]
      if cost > 0:
        edges.append((node[*p, k], sink, cost))
      else:
        edges.append((source, node[*p, k], -cost))
  start, stop, capacity = zip(*edges, strict=True)
  whole = np.round(np.array(capacity) * 1e6).astype(np.int32)
  graph = coo_matrix((whole, (start, stop)), shape=(sink + 1,) * 2).tocsr()
  rest = graph - maximum_flow(graph, source, sink).flow
  rest.eliminate_zeros()
  reached = np.zeros(sink + 1, int)
  reached[breadth_first_order(rest, source, return_predecessors=False)] = 1
  return reached[: node.size].reshape(node.shape).sum(-1)


@pytest.mark.parametrize('levels', [2, 3])
def test_the_energy_is_that_of_the_definition(levels):
  rng = np.random.default_rng(0)
  costs = problems(rng, 5, 4, levels, 1.0)
  labels = rng.integers(0, levels, (5, 4, 4))
  found = energy(as_costs(costs), jnp.asarray(labels))
  np.testing.assert_allclose(found, numpy_energy(costs, labels), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('levels, n', [(2, 3), (3, 2), (3, 3)])
def test_small_grids_are_solved_exactly(levels, n):
  rng = np.random.default_rng(1)
  strengths = (0.0, 0.3, 1.0, 3.0)
  parts = [problems(rng, 8, n, levels, strength) for strength in strengths]
  costs = tuple(np.concatenate(x) for x in zip(*parts, strict=True))
  labels = np.asarray(cut(as_costs(costs)))
  assert labels.dtype == np.int32 and labels.shape == (32, n, n)
  least = brute_force(costs)
  gap = numpy_energy(costs, labels) - least
  assert (gap > -1e-5).all(), 'less than the least: the oracle is wrong'
  assert (gap < 1e-5).all(), f'not the optimum, by {gap.max()}'
  best = np.stack([minimal_cut(*one) for one in zip(*costs, strict=True)])
  np.testing.assert_allclose(numpy_energy(costs, best), least, atol=1e-4)


def gaps(levels, n, strength, count=16):
  """Returns the excess energy, as a fraction of what the best cut gains."""
  costs = problems(np.random.default_rng(n), count, n, levels, strength)
  labels = np.asarray(cut(as_costs(costs)))
  best = np.stack([minimal_cut(*one) for one in zip(*costs, strict=True)])
  found, least = numpy_energy(costs, labels), numpy_energy(costs, best)
  # One label everywhere is the best that needs no cut.
  plain = np.min(np.asarray(costs[0], float).sum((1, 2)), axis=1)
  assert (plain > least).any(), 'nothing to cut'
  assert (found - least > -1e-4).all(), 'the oracle is no optimum'
  return (found - least).sum() / (plain - least).sum()


@pytest.mark.parametrize(
  'levels, n', [pytest.param(2, 8, marks=pytest.mark.slow), (3, 16)]
)
def test_large_grids_are_solved_almost_exactly(levels, n):
  # Measured: at most 0.0004. A checkerboard of best labels alone, from the best
  # label of each block, loses 4 % to 40 % of it on the costs of Puzzle Mix.
  assert gaps(levels, n, strength=1.0, count=8) < 0.003


@pytest.mark.slow
def test_no_label_alone_can_be_bettered():
  rng = np.random.default_rng(3)
  costs = problems(rng, 16, 8, 3, 0.5)
  labels = np.asarray(cut(as_costs(costs)))
  least = numpy_energy(costs, labels)
  for i, j, value in itertools.product(range(8), range(8), range(3)):
    other = labels.copy()
    other[:, i, j] = value
    assert (numpy_energy(costs, other) > least - 1e-4).all()


def test_what_costs_nothing_to_part_is_parted_block_by_block():
  costs = problems(np.random.default_rng(4), 16, 8, 3, 0.0)
  labels = np.asarray(cut(as_costs(costs)))
  np.testing.assert_array_equal(labels, np.argmin(costs[0], axis=-1))


def test_what_costs_too_much_to_part_is_not():
  costs = problems(np.random.default_rng(5), 16, 8, 3, 1e3)
  labels = np.asarray(cut(as_costs(costs)))
  want = np.argmin(costs[0].sum((1, 2)), axis=-1)
  np.testing.assert_array_equal(labels, want[:, None, None] + 0 * labels)


def test_problems_do_not_see_each_other():
  costs = problems(np.random.default_rng(6), 16, 8, 3, 0.5)
  together = np.asarray(cut(as_costs(costs)))
  mapped = jax.vmap(cut)(as_costs(x[:, None] for x in costs))
  np.testing.assert_array_equal(np.asarray(mapped)[:, 0], together)
