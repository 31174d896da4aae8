"""Ranks compared with float64 brute force; ties, NaN, and intervals."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxretrieval import recall

# Compiling `ranks` for a shape takes a second: most tests share one.
QUERIES, ITEMS, DIM, BLOCK = 75, 50, 16, 16


def _brute_force(queries, candidates, query_ids, candidate_ids):
  """Sorts all distances in float64, ties with the correct candidate last."""
  queries, candidates = (
    queries.astype(np.float64),
    candidates.astype(np.float64),
  )
  found = []
  for query, query_id in zip(queries, query_ids, strict=True):
    distance = np.square(query - candidates).sum(-1)
    own = candidate_ids == query_id
    best = distance[own].min()
    order = np.argsort(np.append(distance[~own], best), kind='stable')
    found.append(np.flatnonzero(order == (~own).sum())[0])
  return np.array(found)


def _planted(seed, ids=20, noise=2.0):
  """Several items and queries of an id: all about a point of its own."""
  rng = np.random.default_rng(seed)
  points = rng.normal(size=(ids, DIM))
  candidate_ids = np.append(np.arange(ids), rng.integers(0, ids, ITEMS - ids))
  query_ids = rng.integers(0, ids, QUERIES)
  candidates = points[candidate_ids] + noise * rng.normal(size=(ITEMS, DIM))
  query = points[query_ids] + noise * rng.normal(size=(QUERIES, DIM))
  return (
    query.astype(np.float32),
    candidates.astype(np.float32),
    query_ids,
    candidate_ids,
  )


def _ranks(*arguments):
  return np.asarray(recall.ranks(*arguments, block_size=BLOCK))


@pytest.mark.parametrize('block_size', [1, 1024])
def test_ranks_equal_brute_force_in_any_blocks(block_size):
  for seed in range(5):
    planted = _planted(seed)
    expected = _brute_force(*planted)
    assert 0 < np.median(expected) < 20, 'the planted set tests little'
    np.testing.assert_array_equal(
      recall.ranks(*planted, block_size=block_size), expected
    )


def test_ties_count_against_the_query():
  # Whole numbers: many distances are equal, and float32 has them exactly.
  rng = np.random.default_rng(0)
  candidates = rng.integers(0, 2, (ITEMS, DIM)).astype(np.float32)
  queries = rng.integers(0, 2, (QUERIES, DIM)).astype(np.float32)
  ids = rng.integers(0, ITEMS, QUERIES), np.arange(ITEMS)
  expected = _brute_force(queries, candidates, *ids)
  np.testing.assert_array_equal(_ranks(queries, candidates, *ids), expected)


def test_equal_items_are_exact_ties_whatever_rounding_does():
  # Every product rounds; 101 rows, so that blocks have ends that a matrix
  # product treats otherwise than their middle.
  dim, block_size = 1280, 37
  rng = np.random.default_rng(dim)
  queries = rng.normal(size=(101, dim)).astype(np.float32)
  candidates = np.tile(rng.normal(size=dim).astype(np.float32), (101, 1))
  ids = np.arange(101)
  ranks = recall.ranks(queries, candidates, ids, ids, block_size=block_size)
  assert (np.asarray(ranks) == 100).all(), (
    'a collapsed model must have every other item ahead of the right one'
  )
  assert recall.recall_at(ranks, 10) == 0
  # Each item has one twin, among others that are far.
  candidates = np.repeat(rng.normal(size=(51, dim)), 2, 0)[:101]
  near = (candidates + 1e-3 * rng.normal(size=candidates.shape)).astype(
    np.float32
  )
  candidates = candidates.astype(np.float32)
  ranks = recall.ranks(near, candidates, ids, ids, block_size=block_size)
  np.testing.assert_array_equal(ranks, [1] * 100 + [0])


def test_differences_below_the_error_of_a_matrix_product_are_seen():
  # All lie far out and close together: |x|^2 + |y|^2 - 2xy is noise.
  queries, candidates, *ids = _planted(0)
  queries, candidates = 100 + queries / 1024, 100 + candidates / 1024
  expected = _brute_force(queries, candidates, *ids)
  assert 0 < np.median(expected) < 20
  np.testing.assert_array_equal(_ranks(queries, candidates, *ids), expected)


def test_nan_never_looks_good():
  queries, candidates, query_ids, candidate_ids = _planted(1)
  # The most that can be ahead: the items of other ids.
  others = ITEMS - np.bincount(candidate_ids)[query_ids]
  bad = queries.copy()
  bad[::2, 3] = np.nan
  found = _ranks(bad, candidates, query_ids, candidate_ids)
  assert (found == others)[::2].all(), 'a NaN query must have all others ahead'
  expected = _brute_force(queries, candidates, query_ids, candidate_ids)
  np.testing.assert_array_equal(found[1::2], expected[1::2])

  bad = candidates.copy()
  bad[candidate_ids < 5, 0] = np.nan
  found = _ranks(queries, bad, query_ids, candidate_ids)
  lost = query_ids < 5
  assert (found == others)[lost].all(), 'a query whose items are NaN'
  healthy = candidate_ids >= 5
  expected = _brute_force(
    queries[~lost],
    candidates[healthy],
    query_ids[~lost],
    candidate_ids[healthy],
  )
  np.testing.assert_array_equal(found[~lost], expected)

  for value in (np.nan, np.inf):
    found = _ranks(
      queries, np.full_like(candidates, value), query_ids, candidate_ids
    )
    assert (found == others).all(), f'a model that gives {value}'
  with np.errstate(over='ignore'):
    huge = queries * np.float32(1e30), candidates * np.float32(1e30)
  found = _ranks(*huge, query_ids, candidate_ids)
  assert (found == others).all(), 'distances beyond float32'


def test_same_ranks_under_jit_from_half_precision():
  queries, candidates, query_ids, candidate_ids = _planted(2)
  queries, candidates = (
    queries.astype(np.float16),
    candidates.astype(np.float16),
  )
  expected = _brute_force(queries, candidates, query_ids, candidate_ids)
  ranks = jax.jit(recall.ranks)
  found = ranks(queries, candidates, query_ids, candidate_ids)
  np.testing.assert_array_equal(found, expected)
  query_ids[4] = 99
  found = ranks(queries, candidates, query_ids, candidate_ids)
  assert found[4] == ITEMS, 'without own item all must be ahead'


# Eight devices.


def _shared(axis, in_specs):
  mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
  ranks = functools.partial(recall.ranks, block_size=BLOCK, axis=axis)
  return jax.jit(
    jax.shard_map(ranks, mesh=mesh, in_specs=in_specs, out_specs=in_specs[0])
  )


@pytest.mark.devices
def test_devices_share_the_queries():
  split, whole = PartitionSpec('data'), PartitionSpec()
  ranks = _shared(None, (split, whole, split, whole))
  for seed in range(2):
    arguments = _planted(seed)
    expected = _ranks(*arguments)
    queries, candidates, query_ids, candidate_ids = arguments
    found = jax.block_until_ready(
      ranks(queries[:72], candidates, query_ids[:72], candidate_ids)
    )
    np.testing.assert_array_equal(found, expected[:72])


@pytest.mark.devices
def test_devices_share_the_image_store():
  split, whole = PartitionSpec('data'), PartitionSpec()
  ranks = _shared('data', (whole, split, whole, split))
  for seed in range(3):
    queries, candidates, query_ids, candidate_ids = _planted(seed)
    if seed == 1:  # Whole numbers: ties across devices.
      queries, candidates = np.round(queries / 4), np.round(candidates / 4)
    if seed == 2:  # Who has no distance has all others ahead, and no more.
      queries[::3, 1] = np.nan
      candidates[candidate_ids == 7] = np.nan
    expected = _ranks(queries, candidates, query_ids, candidate_ids)
    # 50 items and six that are none, and would be the nearest of all.
    more = np.resize(queries, (6, DIM))
    candidates = np.concatenate([candidates, more])
    candidate_ids = np.append(candidate_ids, np.full(6, -1))
    found = jax.block_until_ready(
      ranks(queries, candidates, query_ids, candidate_ids)
    )
    np.testing.assert_array_equal(
      found, expected, 'the shards of the candidates must add up'
    )


def test_no_matrix_of_all_distances_is_in_memory():
  x = jax.ShapeDtypeStruct((8192, 64), np.float32)
  ids = jax.ShapeDtypeStruct((8192,), np.int32)
  compiled = jax.jit(recall.ranks).lower(x, x, ids, ids).compile()
  memory = compiled.memory_analysis()
  assert memory is not None
  size = memory.temp_size_in_bytes
  assert size < 8192 * 8192 * 4 / 4, f'{size} bytes beside the arguments'


def test_ids_of_64_bits_are_not_cut():
  queries, candidates, *ids = _planted(3)
  expected = _brute_force(queries, candidates, *ids)
  wide = [5 + x.astype(np.int64) * 2**32 for x in ids]
  np.testing.assert_array_equal(_ranks(queries, candidates, *wide), expected)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'query_ids': [0, 7]}, r'query_ids\[1\]=7'),
    ({'query_ids': [0]}, r'query_ids has shape \(1,\)'),
    ({'candidates': np.zeros((3, 5))}, r'candidates \(3, 5\)'),
    (
      {'candidates': np.zeros((0, 4)), 'candidate_ids': []},
      r'candidates \(0, 4',
    ),
    ({'block_size': 0}, 'block_size=0'),
  ],
)
def test_wrong_arguments_are_named(change, message):
  good = {
    'queries': np.zeros((2, 4)),
    'candidates': np.zeros((3, 4)),
    'query_ids': [0, 1],
    'candidate_ids': [0, 1, 2],
  }
  with pytest.raises(ValueError, match=message):
    recall.ranks(**(good | change))


def test_statistics_of_known_ranks():
  values = recall.summary(np.array([0, 0, 3, 4, 9, 10, 499, 1]))
  assert values['recall@1'] == 2 / 8
  assert values['recall@5'] == 5 / 8
  assert values['recall@10'] == 6 / 8
  assert values['median_rank'] == (3 + 4) / 2 + 1
  expected = np.mean(1 / np.array([1, 1, 4, 5, 10, 11, 500, 2]))
  assert values['mrr'] == pytest.approx(expected, rel=1e-6)
  assert values['recall@10_low'] < 6 / 8 < values['recall@10_high']


def test_interval_of_a_published_size():
  # 1,000 queries at R@10 = .85: +-2.2 points, by the normal approximation.
  ranks = np.where(np.arange(1000) < 850, 0, 50)
  statistic = functools.partial(recall.recall_at, k=10)
  low, high = recall.bootstrap(jax.random.key(0), ranks, statistic)
  # The ends of 1,000 draws are themselves off by some .1 points.
  assert low == pytest.approx(0.85 - 0.0221, abs=0.004)
  assert high == pytest.approx(0.85 + 0.0221, abs=0.004)
  same = recall.bootstrap(jax.random.key(0), ranks, statistic)
  other = recall.bootstrap(jax.random.key(1), ranks, recall.median_rank)
  assert same == (low, high) and other == (1, 1)
  wide = recall.bootstrap(jax.random.key(0), ranks, statistic, level=0.99)
  assert wide[0] < low < high < wide[1]


def test_interval_covers_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(0)
  statistic = functools.partial(recall.recall_at, k=10)
  inside = 0
  for seed in range(40):
    ranks = np.where(rng.random(400) < 0.6, 0, 50)
    key = jax.random.key(seed)
    low, high = recall.bootstrap(key, ranks, statistic, samples=200)
    inside += low <= 0.6 <= high
  # Binomial(40, .95) is below 34 once in a hundred times.
  assert inside >= 34, f'{inside} of 40 intervals hold the truth'


def test_captions_of_an_image_are_drawn_together():
  # Five captions that always agree are one query, not five.
  ranks = np.where(np.arange(200) < 120, 0, 50)
  statistic = functools.partial(recall.recall_at, k=10)
  key = jax.random.key(0)
  low, high = recall.bootstrap(key, ranks, statistic)
  rows = np.repeat(ranks[:, None], 5, 1)
  grouped = recall.bootstrap(key, rows, statistic)
  naive = recall.bootstrap(key, rows.reshape(-1), statistic)
  assert grouped == pytest.approx((low, high), abs=1e-6)
  assert naive[1] - naive[0] < 0.6 * (high - low)


def test_statistics_need_ranks():
  for function in (
    recall.summary,
    lambda ranks: recall.bootstrap(jax.random.key(0), ranks, np.mean),
  ):
    with pytest.raises(ValueError, match=r'ranks is empty'):
      function(np.zeros(0, np.int32))


@pytest.mark.parametrize(
  ('function', 'options', 'message'),
  [
    *((recall.recall_at, {'k': k}, f'^k={k} ') for k in (0, -1, 1.5)),
    (recall.summary, {'ks': (1, 0)}, '^k=0 '),
    (recall.summary, {'ks': ()}, r'^ks=\(\) '),
    (recall.bootstrap, {'samples': 0}, '^samples=0 '),
    *((recall.bootstrap, {'level': x}, f'^level={x} ') for x in (0, 1.5)),
  ],
)
def test_options_out_of_range(function, options, message):
  if function is recall.bootstrap:
    function = functools.partial(function, jax.random.key(0))
    options = {'statistic': np.mean} | options
  with pytest.raises(ValueError, match=message):
    function(ranks=[0, 4, 9], **options)
