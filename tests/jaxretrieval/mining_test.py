"""Miners compared with a numpy loop; distributions, blocks, shards, memory."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy import stats

from jaxretrieval import losses, mining

MINERS = mining.MINERS
RANKS = (2, 6)


def select(miner, ranks=RANKS, block_size=4096):
  """`mining.select` as a function of arrays alone."""

  def function(bits, anchors, candidates, positive):
    return mining.select(
      bits,
      anchors,
      candidates,
      miner=miner,
      ranks=ranks,
      positive=positive,
      block_size=block_size,
    )

  return function


# Compiles in half the time, without LLVM's optimiser.
jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


@functools.cache
def quick(miner, ranks=RANKS, block_size=4096):
  return jit(select(miner, ranks, block_size))


def make_items(features: Any, ids: Any, captions: Any = None) -> mining.Items:
  return mining.Items(features, ids, captions)


def make_bits(count, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 2**32, count, dtype=np.uint32)


def integers(anchors, candidates, dim=3, ids=12, captions=15, seed=0):
  """Features of few small integers: exact arithmetic and many ties."""
  rng = np.random.default_rng(seed)

  def items(count):
    return make_items(
      rng.integers(-2, 3, (count, dim)).astype(np.float32),
      rng.integers(0, ids, count).astype(np.int32),
      rng.integers(0, captions, count).astype(np.int32),
    )

  positive = rng.integers(-2, 3, (anchors, dim)).astype(np.float32)
  return make_bits(anchors, seed), items(anchors), items(candidates), positive


def expected(bits, anchors, candidates, positive, miner, ranks=RANKS):
  """The picks, one row after the other; of 'random' those that are allowed."""
  text, image, own = (
    np.asarray(x, np.int64)
    for x in (anchors.features, candidates.features, positive)
  )
  distances = np.sum((text[:, None] - image[None]) ** 2, axis=-1)
  picks = []
  for i, row in enumerate(distances.tolist()):
    order = []
    for j, distance in enumerate(row):
      same = anchors.image_ids[i] == candidates.image_ids[j]
      if anchors.caption_ids is not None and candidates.caption_ids is not None:
        same |= anchors.caption_ids[i] == candidates.caption_ids[j]
      if not same:
        order.append((distance, j))
    order.sort()
    if miner == 'semihard':
      least = np.sum((text[i] - own[i]) ** 2)
      order = [(d, j) for d, j in order if d > least] or order
    if miner == 'topk_random':
      first = min(ranks[0], len(order) - 1)
      order = order[max(first, 0) : ranks[1]]
      order = order and [order[bits[i] % len(order)]]
    picks.append([j for _, j in order])
  return picks


def check_picks(got, want, miner):
  index, valid = np.asarray(got.index), np.asarray(got.valid)
  assert index.dtype == np.int32 and valid.dtype == bool
  assert index.shape == valid.shape == (len(want),)
  assert (valid == [bool(row) for row in want]).all(), f'{miner}: valid'
  assert (index[~valid] == 0).all(), 'where there is none the index is 0'
  for i, row in enumerate(want):
    if row and miner == 'random':
      assert index[i] in row, f'row {i}: {index[i]} is excluded'
    elif row:
      assert index[i] == row[0], f'{miner}, row {i}: {index[i]}, not {row[0]}'


# Blocks that hold everything; blocks smaller than the ranks, which do not
# divide the numbers of anchors and candidates.
@pytest.mark.parametrize('block_size', [4096, 4])
@pytest.mark.parametrize('miner', MINERS)
def test_miners_equal_a_loop_in_numpy(miner, block_size):
  pick = quick(miner, block_size=block_size)
  for seed in range(3):
    args = integers(45, 61, ids=12, captions=9, seed=seed)
    want = expected(*args, miner)
    check_picks(pick(*args), want, miner)
    whole = quick(miner)(*args)
    for got, full in zip(pick(*args), whole, strict=True):
      assert (got == full).all(), f'{miner}: blocks of {block_size} differ'


@pytest.mark.parametrize('miner', ['hardest', 'random'])
@pytest.mark.parametrize('captions', ['neither', 'anchors'])
def test_captions_may_be_unknown(miner, captions):
  bits, anchors, candidates, positive = integers(45, 61, ids=4, seed=4)
  candidates = candidates._replace(caption_ids=None)
  if captions == 'neither':
    anchors = anchors._replace(caption_ids=None)
  args = bits, anchors, candidates, positive
  check_picks(quick(miner)(*args), expected(*args, miner), miner)


@pytest.mark.parametrize('miner', MINERS)
@pytest.mark.parametrize('left', [0, 1, 2, 4])
def test_rows_with_few_or_no_negatives(miner, left):
  args = integers(45, 61, captions=1000, seed=4)
  anchors, candidates = args[1:3]
  # A third of the anchors has so many images that are not its own.
  anchors.image_ids[:15] = 0
  candidates.image_ids[:] = 0
  candidates.image_ids[20 : 20 + left] = 1
  anchors = anchors._replace(caption_ids=1000 + np.arange(45))
  args = args[0], anchors, candidates, args[3]
  got = quick(miner, block_size=4)(*args)
  assert (np.asarray(got.valid)[:15] == (left > 0)).all()
  assert got.valid[15:].any()
  check_picks(got, expected(*args, miner), miner)


@pytest.mark.parametrize('block_size', [4096, 3])
def test_semihard_is_the_nearest_beyond_the_positive(block_size):
  candidates = make_items(
    np.array([[1.0], [2.0], [4.0], [-3.0], [3.0]], np.float32), np.arange(5)
  )
  texts = make_items(np.zeros((5, 1), np.float32), np.array([9, 9, 9, 9, 0]))
  # Own images at 0, 2, 3 (two there), 5 (none beyond), 0.
  positive = np.array([[0.0], [-2.0], [2.5], [5.0], [0.0]], np.float32)
  pick = quick('semihard', block_size=block_size)
  got = pick(make_bits(5), texts, candidates, positive)
  # Beyond means strictly; of equals the lower row; else the nearest of all.
  np.testing.assert_array_equal(got.index, [0, 3, 3, 0, 1])
  assert got.valid.all()


def test_the_hardest_of_real_features_is_that_of_float64():
  rng = np.random.default_rng(5)
  text, image = 20 * np.maximum(rng.normal(size=(2, 48, 1280)), 0)
  image[24:] = image[:24] + 0.5 * np.abs(rng.normal(size=(24, 1280)))
  text, image = text.astype(np.float16), image.astype(np.float16)
  ids = np.arange(48)
  d = text.astype(np.float64)[:, None] - image.astype(np.float64)[None]
  d = np.sum(d**2, axis=-1)
  d[ids, ids] = np.inf
  two = np.sort(d, axis=1)[:, :2]
  assert (two[:, 1] / two[:, 0] > 1 + 1e-6).all(), 'ties: no test'
  args = make_bits(48), make_items(text, ids), make_items(image, ids)
  for block_size in (4096, 20):
    pick = jax.jit(select('hardest', block_size=block_size))
    got = pick(*args, image)
    np.testing.assert_array_equal(got.index, d.argmin(axis=1))


@pytest.mark.parametrize('block_size', [4096, 50])
def test_copies_of_an_image_are_ties(block_size):
  # Not integers: all columns of a product must be summed in the same order.
  rng = np.random.default_rng(6)
  text, image = rng.normal(size=(2, 100, 64)).astype(np.float32)
  image[50:] = image[:50]
  args = (
    make_items(text, 200 + np.arange(100)),
    make_items(image, np.arange(100)),
  )
  pick = jax.jit(select('hardest', block_size=block_size))
  got = pick(make_bits(100), *args, image)
  assert (got.index < 50).all(), 'of two copies the lower row wins'


# Chances.

ROWS = 20_000
LEVEL = 1e-3  # The seeds are fixed: a draw this rare is a fault.


def picks_of_one_row(miner, candidates, **options):
  """Picks of many anchors at 0 among images at 0, 1, 2, ..."""
  count = len(candidates)
  images = np.arange(count, dtype=np.float32)[:, None]
  texts = make_items(np.zeros((ROWS, 1), np.float32), np.zeros(ROWS, np.int32))
  images = make_items(images, np.asarray(candidates, np.int32))
  return quick(miner, **options)(
    make_bits(ROWS, seed=7), texts, images, texts.features
  )


def check_uniform(picks, among):
  counts = np.bincount(picks, minlength=max(among) + 1)
  assert counts.sum() == counts[among].sum(), 'picks outside of the window'
  chance = stats.chisquare(counts[among]).pvalue
  assert len(among) == 1 or chance > LEVEL, f'not uniform: {counts[among]}'


# The ids of the images, the ranks, the columns that share the picks.
WINDOWS = {
  'whole': ([1] * 10, (2, 6), [2, 3, 4, 5]),
  'beyond the candidates': ([1] * 10, (7, 100), [7, 8, 9]),
  'some excluded': ([0, 1, 0, 1, 1, 0, 1, 1, 1, 1], (2, 6), [4, 6, 7, 8]),
  'fewer valid than ranks': ([0] * 6 + [1] * 4, (2, 6), [8, 9]),
  'none in the window': ([0] * 8 + [1] * 2, (2, 6), [9]),
}


@pytest.mark.parametrize('window', WINDOWS)
def test_topk_random_is_uniform_among_its_ranks(window):
  candidates, ranks, among = WINDOWS[window]
  whole = picks_of_one_row('topk_random', candidates, ranks=ranks)
  assert whole.valid.all()
  check_uniform(whole.index, among)
  if window == 'whole':
    blocks = picks_of_one_row(
      'topk_random', candidates, ranks=ranks, block_size=999
    )
    assert (blocks.index == whole.index).all()


def test_random_is_uniform_among_all_that_are_valid():
  candidates = np.ones(12, int)
  candidates[[0, 5, 11]] = 0
  got = picks_of_one_row('random', candidates)
  among = np.flatnonzero(candidates)
  check_uniform(got.index, among)
  # Rows are independent of their neighbours.
  place = np.searchsorted(among, np.asarray(got.index))
  check_uniform(9 * place[:-1:2] + place[1::2], np.arange(81))
  # Many images: hardly any numbers are equal, where the lower row would win.
  got = picks_of_one_row('random', np.ones(500))
  check_uniform(got.index, np.arange(500))


def test_random_looks_at_no_feature():
  args = integers(45, 61, seed=8)
  got = quick('random')(*args)
  bits, anchors, candidates, positive = args
  nothing = [x._replace(features=0 * x.features) for x in (anchors, candidates)]
  again = quick('random')(bits, *nothing, positive)
  assert (got.index == again.index).all()


@pytest.mark.parametrize('miner', MINERS)
def test_mine_draws_from_its_key(miner):
  _, anchors, candidates, positive = integers(45, 61, seed=9)

  def mine(key):
    options: Any = {'ranks': RANKS, 'positive': positive}
    return mining.mine(key, anchors, candidates, miner=miner, **options)

  keys = jax.random.split(jax.random.key(0), 3)
  _, picks = jit(lambda: jax.lax.scan(lambda c, k: (c, mine(k)), 0, keys))()
  for key, index, valid in zip(keys, *picks, strict=True):
    bits = jax.random.bits(key, (45,), jnp.uint32)
    want = quick(miner)(bits, anchors, candidates, positive)
    assert (index == want.index).all() and (valid == want.valid).all()
  changed = (picks.index[0] != picks.index[1]).any()
  assert changed == (miner in ('random', 'topk_random'))


# Selection has no gradient.


@pytest.mark.slow
@pytest.mark.parametrize('miner', MINERS)
def test_no_gradient_through_the_selection(miner):
  rng = np.random.default_rng(10)
  text, image = rng.normal(size=(2, 12, 6)).astype(np.float32)
  ids, bits = np.arange(12), make_bits(12)
  choose = select(miner, block_size=5)

  def pick(text, image):
    return choose(bits, make_items(text, ids), make_items(image, ids), image)

  def loss(text, image, frozen=None):
    picked = frozen or pick(text, image)
    negatives = image[picked.index], text[picked.index]
    return losses.m3l(text, image, *negatives, where=picked.valid)

  @jit
  def slopes(text, image):
    slope = jax.grad(loss, (0, 1))
    return slope(text, image), slope(text, image, pick(text, image))

  got, want = slopes(text, image)
  for a, b in zip(got, want, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * np.abs(b).max())
    assert np.abs(b).max() > 0


# What is not a number.


@pytest.mark.parametrize('miner', MINERS)
def test_a_model_that_diverged_is_not_hidden(miner):
  # If such rows had no negative they would leave the loss, which would be 0.
  args = integers(45, 61, seed=11)
  args[1].features[2], args[1].features[5] = np.nan, np.inf
  got = quick(miner, block_size=4)(*args)
  assert got.valid.all()
  allowed = expected(*integers(45, 61, seed=11), 'random')
  for i in (2, 5):
    assert got.index[i] in allowed[i], 'an image is its own negative'


def test_an_image_that_is_not_a_number_is_not_hidden():
  args = integers(45, 61, seed=11)
  allowed = expected(*args, 'random')
  args[2].features[3] = np.nan
  for block_size in (4096, 4):
    got = quick('hardest', block_size=block_size)(*args)
    for i, row in enumerate(allowed):
      assert (got.index[i] == 3) == (3 in row)


# Eight devices.


def devices_case(features):
  rng = np.random.default_rng(12)
  if features == 'integers':
    return integers(64, 64, seed=12)
  text, image = np.maximum(rng.normal(size=(2, 64, 3)), 0).astype(np.float32)
  ids, captions = rng.integers(0, 50, (2, 64)).astype(np.int32)
  items = [make_items(x, ids, captions) for x in (text, image)]
  return make_bits(64), *items, image


def make_mesh(count=8):
  devices = jax.devices()[:count]
  return jax.make_mesh(
    (count,), ('data',), axis_types=(AxisType.Auto,), devices=devices
  )


def in_shards(mesh, miner, block_size, check_vma=True):
  """Each device picks for its anchors, from the images of all."""

  def shard(bits, anchors, candidates, positive):
    candidates = jax.lax.all_gather(candidates, 'data', tiled=True)
    choose = select(miner, block_size=block_size)
    return choose(bits, anchors, candidates, positive)

  return jax.shard_map(
    shard,
    mesh=mesh,
    in_specs=PartitionSpec('data'),
    out_specs=PartitionSpec('data'),
    check_vma=check_vma,
  )


@pytest.mark.parametrize('block_size', [4096, 5])
@pytest.mark.parametrize('miner', MINERS)
def test_shard_map_takes_the_miners(miner, block_size):
  # The types of loops within shard_map are checked while tracing.
  function = in_shards(make_mesh(1), miner, block_size)
  got = jax.eval_shape(function, *integers(64, 64))
  assert got.index.shape == (64,)


@functools.cache
def quick_in_shards(miner, block_size):
  return jit(in_shards(make_mesh(), miner, block_size))


@pytest.mark.devices
@pytest.mark.parametrize('features', ['integers', 'real'])
@pytest.mark.parametrize('miner', MINERS)
def test_eight_devices_pick_as_one(miner, features):
  args = devices_case(features)
  rows = NamedSharding(make_mesh(), PartitionSpec('data'))
  sharded = jax.device_put(args, rows)
  want = jax.block_until_ready(quick(miner)(*args))
  for block_size in (4096, 5):
    got = jax.block_until_ready(quick_in_shards(miner, block_size)(*sharded))
    assert len(got.index.sharding.device_set) == 8
    for a, b in zip(got, want, strict=True):
      assert (np.asarray(a) == b).all(), f'{miner}, blocks of {block_size}'
  # And where the compiler splits the work.
  got = jax.block_until_ready(quick(miner)(*sharded))
  assert (np.asarray(got.index) == want.index).all(), f'{miner} under jit'


# Memory.

BATCH = 65_536


def temporary_bytes(miner, block_size):
  def shape(*dims, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(dims, dtype)

  ids = shape(BATCH, dtype=jnp.int32)
  items = make_items(shape(BATCH, 64), ids, ids)
  bits = shape(BATCH, dtype=jnp.uint32)
  function = jax.jit(select(miner, (10, 100), block_size))
  program = function.lower(bits, items, items, items.features).compile()
  memory: Any = program.memory_analysis()
  return memory.temp_size_in_bytes


@pytest.mark.slow
@pytest.mark.parametrize('miner', ['semihard', 'topk_random'])
def test_the_matrix_of_a_large_batch_is_never_built(miner):
  # 17 GB in float32, 4 GB as bools; a block of 4096 x 4096 is 67 MB.
  used = temporary_bytes(miner, 4096)
  assert used < 600e6, f'{miner} uses {used / 1e6:.0f} MB'


def test_memory_is_what_blocks_save():
  used = temporary_bytes('topk_random', BATCH)
  assert used > 4 * BATCH**2, 'the whole matrix is not seen by this test'


# What is refused.

FOUR = make_items(np.zeros((4, 2), np.float32), np.arange(4))


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'miner': 'nearest'}, "miner='nearest'.*hardest, semihard"),
    ({'miner': 'semihard'}, "miner='semihard'.*positive"),
    ({'miner': 'topk_random', 'ranks': (5, 5)}, r'ranks=\(5, 5\)'),
    ({'miner': 'topk_random', 'ranks': (-1, 5)}, r'ranks=\(-1, 5\)'),
    ({'miner': 'topk_random', 'ranks': (0, 1.5)}, r'ranks=\(0, 1\.5\)'),
    ({'miner': 'topk_random', 'ranks': (1,)}, r'ranks=\(1,\)'),
    ({'block_size': 0}, 'block_size=0'),
    ({'block_size': 2.5}, 'block_size=2.5'),
    ({'positive': np.zeros((3, 2))}, r'positive.*\(3, 2\)'),
  ],
)
def test_options_out_of_range(options, message):
  with pytest.raises(ValueError, match=message):
    mining.mine(jax.random.key(0), FOUR, FOUR, **options)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      {'features': np.zeros((4, 3))},
      r'anchors.features \(4, 2\).*\(4, 3\)',
    ),
    ({'features': np.zeros((0, 2))}, 'candidates is empty'),
    ({'features': np.zeros(4)}, r'\(4,\)'),
    ({'image_ids': np.zeros(1)}, r'candidates.image_ids has shape \(1,\)'),
    ({'caption_ids': np.zeros(5)}, r'candidates.caption_ids has shape \(5,\)'),
  ],
)
def test_shapes_that_do_not_fit(change, message):
  with pytest.raises(ValueError, match=message):
    mining.mine(jax.random.key(0), FOUR, FOUR._replace(**change))


def test_as_many_bits_as_anchors():
  with pytest.raises(ValueError, match=r'random_bits has shape \(3,\)'):
    mining.select(make_bits(3), FOUR, FOUR)
