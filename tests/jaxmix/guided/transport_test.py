"""Tests of the transport of blocks, against scipy's assignment."""

import jax
import numpy as np
import pytest
from scipy import optimize

from jaxmix._src.guided.transport import distances, transport

COST = 0.8


def problems(count, n, peaked):
  """Returns saliency with a blob, and a visible region."""
  rng = np.random.default_rng(n)
  row, column = np.mgrid[:n, :n] / n
  centre = rng.uniform(0.2, 0.8, (2, count, 1, 1))
  square = (row - centre[0]) ** 2 + (column - centre[1]) ** 2
  saliency = (np.exp(-square / 0.1) + 0.15) * rng.gamma(1.5, 1, (count, n, n))
  saliency = saliency**peaked
  saliency /= saliency.sum((1, 2), keepdims=True)
  angle = rng.uniform(0, 2 * np.pi, (count, 1, 1))
  edge = np.cos(angle) * (row - 0.5) + np.sin(angle) * (column - 0.5)
  return saliency.astype(np.float32), edge > 0.05


def value_of(saliency, visible):
  """Returns the value of a block (row) at a position (column), in loops."""
  n = len(saliency)
  result = np.zeros((n * n, n * n))
  for i, j in np.ndindex(n * n, n * n):
    a, b = divmod(i, n), divmod(j, n)
    square = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (n - 1) ** 2
    result[i, j] = saliency[a] * visible[b] - COST * square
  return result


def deferred_acceptance(value):
  """One block at a time, until nobody is refused: block at place, or -1."""
  size = len(value)
  wishes = np.argsort(-value, axis=1, kind='stable')
  asked, holder = np.zeros(size, int), np.full(size, -1)
  waiting = list(range(size))
  while waiting:
    block = waiting.pop()
    place = wishes[block, asked[block]]
    asked[block] += 1
    other = holder[place]
    if other < 0 or value[block, place] > value[other, place]:
      holder[place], block = block, int(other)
    if block >= 0 and asked[block] < size:
      waiting.append(block)
  return holder


def test_distances_are_those_of_the_grid():
  n = 5
  for i, j in np.ndindex(n * n, n * n):
    a, b = np.array(divmod(i, n)), np.array(divmod(j, n))
    assert distances(n)[i, j] == pytest.approx(np.sum((a - b) ** 2) / 16)


@pytest.mark.slow
@pytest.mark.parametrize('n, peaked', [(8, 1), (8, 3), (16, 3)])
def test_visible_positions_are_almost_optimal(n, peaked):
  saliency, visible = problems(8, n, peaked)
  order = np.asarray(transport(saliency, visible, COST)).reshape(8, -1)
  np.testing.assert_array_equal(
    np.sort(order, 1), np.tile(range(n * n), (8, 1))
  )
  kept = best = before = 0.0
  for b in range(8):
    value, places = (
      value_of(saliency[b], visible[b]),
      np.flatnonzero(visible[b]),
    )
    kept += value[order[b][places], places].sum()
    before += value[places, places].sum()
    rows, columns = optimize.linear_sum_assignment(-value[:, places])
    best += value[rows, places[columns]].sum()
  assert before < kept <= best + 1e-6
  # Measured: 1.0 % and 3.4 % at most, the second of what moving gains at all.
  assert (best - kept) / best < 0.015
  assert (best - kept) / (best - before) < 0.05


@pytest.mark.parametrize('peaked', [1, 3])
def test_it_is_deferred_acceptance(peaked):
  # Rounds of all at once and one at a time lead to the same, if nobody is
  # indifferent; equal distances are, off the places that are visible.
  saliency, visible = problems(8, 8, peaked)
  order = np.asarray(transport(saliency, visible, COST)).reshape(8, -1)
  for b in range(8):
    stable = deferred_acceptance(value_of(saliency[b], visible[b]))
    places = np.flatnonzero(visible[b])
    np.testing.assert_array_equal(order[b][places], stable[places])


def test_nothing_moves_without_a_gain():
  saliency, visible = problems(8, 8, 1)
  for mask in (visible | True, visible & False):
    order = np.asarray(transport(saliency, mask, COST)).reshape(8, -1)
    np.testing.assert_array_equal(order, np.tile(range(64), (8, 1)))
  order = np.asarray(transport(saliency, visible, 1e3)).reshape(8, -1)
  np.testing.assert_array_equal(order, np.tile(range(64), (8, 1)))


def test_what_is_salient_moves_where_it_is_seen():
  saliency = np.full((1, 8, 8), 0.4 / 63, np.float32)
  saliency[0, 4, 3] = 0.6
  visible = np.zeros((1, 8, 8), bool)
  visible[:, :, 4:] = True
  order = np.asarray(transport(saliency, visible, COST))
  assert order[0, 4, 4] == 4 * 8 + 3
  others = np.delete(np.arange(64), [4 * 8 + 3, 4 * 8 + 4])
  kept = order.ravel()[others] == others
  assert kept[visible.ravel()[others]].all()


def test_a_map_that_is_not_finite_moves_nothing():
  saliency = np.full((1, 4, 4), np.nan, np.float32)
  order = np.asarray(transport(saliency, np.ones((1, 4, 4), bool), COST))
  np.testing.assert_array_equal(order.ravel(), range(16))


def test_images_do_not_see_each_other():
  saliency, visible = problems(8, 8, 1)
  together = np.asarray(transport(saliency, visible, COST))
  mapped = jax.vmap(transport, (0, 0, None))(
    saliency[:, None], visible[:, None], COST
  )
  np.testing.assert_array_equal(np.asarray(mapped)[:, 0], together)
