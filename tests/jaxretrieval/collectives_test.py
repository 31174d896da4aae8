"""Collectives and the sharded loss, compared with a single device."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import common, retrieval_quickstart
from jaxretrieval import collectives, mining, task
from jaxretrieval.training import objective, text_head
from launch.mesh import make_mesh

DEVICES, ROWS = 8, 128
SPLIT, WHOLE = PartitionSpec('data'), PartitionSpec()

# Compiles in half the time, without LLVM's optimiser.
jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def mesh_of(devices=DEVICES):
  return make_mesh(jax.devices()[:devices])


def split(tree):
  return jax.device_put(tree, NamedSharding(mesh_of(), SPLIT))


# Gathered rows.

ASKED = {
  'any': lambda rng: rng.integers(0, ROWS, ROWS),
  'one row': lambda rng: np.full(ROWS, 77),
  'its own': lambda rng: np.arange(ROWS),
  # More than a round holds: sixteen rows of one device for each.
  'all of one': lambda rng: 32 + rng.permutation(ROWS) % 16,
  'the other way': lambda rng: np.arange(ROWS)[::-1],
}


@functools.cache
def taken():
  shard = jax.shard_map(
    functools.partial(collectives.gather_rows, axis='data'),
    mesh=mesh_of(),
    in_specs=(SPLIT, SPLIT),
    out_specs=SPLIT,
  )

  def both(rows, index, slope):
    found, back = jax.vjp(lambda rows: shard(rows, index), rows)
    return found, back(slope)[0]

  return jit(both)


@pytest.mark.devices
@pytest.mark.parametrize('asked', ASKED)
def test_rows_and_their_gradients_find_their_way(asked):
  rng = np.random.default_rng(0)
  rows, slope = rng.integers(-9, 9, (2, ROWS, 3)).astype(np.float32)
  index = ASKED[asked](rng).astype(np.int32)
  found, back = jax.block_until_ready(taken()(*split((rows, index, slope))))
  np.testing.assert_array_equal(found, rows[index])
  want = np.zeros_like(rows)
  np.add.at(want, index, slope)
  np.testing.assert_array_equal(
    back, want, 'a row must get the slopes of all that asked for it'
  )


@pytest.mark.devices
def test_what_is_not_a_number_stays_in_its_row():
  rng = np.random.default_rng(0)
  rows, slope = rng.normal(size=(2, ROWS, 3)).astype(np.float32)
  rows[5], slope[9] = np.nan, np.inf
  index = np.arange(ROWS, dtype=np.int32)[::-1].copy()
  found, back = jax.block_until_ready(taken()(*split((rows, index, slope))))
  np.testing.assert_array_equal(found, rows[index])
  np.testing.assert_array_equal(back, slope[::-1])


# Negatives of a batch.


def config_of(**fields: Any) -> Any:
  config = retrieval_quickstart.get_config()
  config.loss = common.loss_options(fields.pop('loss', 'm3l'))
  small = {
    'model.hidden': (16, 16),
    'model.text_noise': 0.0,
    'mining.block_size': 5,
  }
  config.update_from_flattened_dict(small | fields)
  return config


def integers(seed, ids=90):
  """Features of few small integers: exact arithmetic and many ties."""
  rng = np.random.default_rng(seed)
  text, image = rng.integers(-2, 3, (2, ROWS, 3)).astype(np.float32)
  names = rng.integers(0, ids, (2, ROWS)).astype(np.int32)
  return mining.Items(text, *names), image


@functools.cache
def miner_of(devices, miner, how, ranks):
  config = config_of(
    **{
      'mining.miner': miner,
      'mining.exchange': how,
      'mining.ranks': ranks,
    }
  )
  mine = objective.make_mining(config.mining, mesh_of(devices)).from_batch
  return jit(mine)


# The last has more ranks than a device has images.
@pytest.mark.devices
@pytest.mark.parametrize('how', objective.EXCHANGES)
@pytest.mark.parametrize(
  'miner, ranks',
  [*((miner, (2, 6)) for miner in mining.MINERS), ('topk_random', (10, 30))],
)
def test_eight_devices_pick_as_one(miner, how, ranks):
  # With two pictures most rows have few negatives, or none.
  for seed, ids in ((0, 90), (1, 90), (2, 2)):
    anchors, image = integers(seed, ids)
    bits = jax.random.bits(jax.random.key(seed), (ROWS,), jnp.uint32)
    one = jax.block_until_ready(
      miner_of(1, miner, 'gather', ranks)(bits, anchors, image)
    )
    many = miner_of(DEVICES, miner, how, ranks)(
      *jax.block_until_ready(split((bits, anchors, image)))
    )
    many = jax.block_until_ready(many)
    np.testing.assert_array_equal(
      many[0].index, one[0].index, f'{miner}, {how}: picks depend on devices'
    )
    for got, want in zip(
      jax.tree.leaves(many), jax.tree.leaves(one), strict=True
    ):
      np.testing.assert_array_equal(got, want)


# The loss of a batch.

IMAGE_DIM, TEXT_DIM = 24, 8


def batch_of(seed=0):
  rng = np.random.default_rng(seed)
  captions = np.arange(2 * ROWS, dtype=np.int32).reshape(ROWS, 2)
  # Some pictures are there twice, and some captions.
  ids = np.arange(ROWS, dtype=np.int32)
  ids[::16], captions[::32] = 3, 5
  return {
    'image': rng.normal(size=(ROWS, IMAGE_DIM)).astype(np.float16) + 1,
    'image_id': ids,
    'text': rng.normal(size=(ROWS, 2, TEXT_DIM)).astype(np.float16),
    'caption': captions,
    'cdf': np.tile(np.array([0.5, 1.0], np.float32), (ROWS, 1)),
  }


def state_of(config):
  batch = batch_of()
  images, texts = batch['image'], batch['text'][:, 0]
  constants = text_head.scale_constants(config.model, images, texts)
  key = jax.random.key(0)
  return text_head.init(config.model, key, constants, images, texts), constants


def gradient_of(config, devices):
  loss = task.make_batch_loss(config, IMAGE_DIM, mesh_of(devices))
  placed = NamedSharding(mesh_of(devices), WHOLE)
  return jit(jax.value_and_grad(loss, has_aux=True), out_shardings=placed)


def results_of(config, devices, batch):
  mesh = mesh_of(devices)
  rest = {name: batch[name] for name in batch if name == 'resident'}
  rows = {name: batch[name] for name in batch if name not in rest}
  batch = jax.device_put(rows, NamedSharding(mesh, SPLIT))
  batch |= jax.device_put(rest, NamedSharding(mesh, WHOLE))
  args = *state_of(config), jax.block_until_ready(batch), jax.random.key(1)
  (value, (_, metrics)), slope = gradient_of(config, devices)(*args)
  return jax.device_get(({'loss': value, **metrics}, slope))


CASES = {
  'hardest': {'loss': 'log_m3l', 'mining.miner': 'hardest'},
  'topk_random': {'loss': 'm3l', 'mining.miner': 'topk_random'},
  'semihard': {'loss': 'triplet', 'mining.miner': 'semihard'},
  'bank': {'loss': 'm3l', 'mining.bank': True},
}


@functools.cache
def results_of_case(case, how, devices):
  fields = {'model.dropout': (0.1, 0.1, 0.0), 'mining.exchange': how}
  batch = batch_of() | {'resident': batch_of(seed=1)}
  return results_of(config_of(**CASES[case], **fields), devices, batch)


@pytest.mark.devices
@pytest.mark.parametrize(
  'case, how',
  [('hardest', 'gather'), ('hardest', 'ring'), ('bank', 'gather')]
  + [
    pytest.param(case, how, marks=pytest.mark.slow)
    for how in objective.EXCHANGES
    for case in ('topk_random', 'semihard')
  ],
)
def test_loss_and_gradient_are_those_of_one_device(case, how):
  one = results_of_case(case, 'gather', 1)
  many = results_of_case(case, how, DEVICES)
  for name, value in one[0].items():
    np.testing.assert_allclose(
      many[0][name], value, rtol=1e-5, err_msg=f'{name} depends on devices'
    )
  leaves = jax.tree.leaves(many[1]), jax.tree.leaves(one[1])
  for got, want in zip(*leaves, strict=True):
    np.testing.assert_allclose(
      got,
      want,
      rtol=1e-4,
      atol=1e-5 * np.abs(want).max(),
      err_msg='the gradient depends on devices',
    )


def traffic(config, devices=DEVICES):
  """What the compiled gradient moves: `{operation: [elements of floats]}`."""
  batch = jax.device_put(batch_of(), NamedSharding(mesh_of(devices), SPLIT))
  args = *state_of(config), batch, jax.random.key(1)
  program = gradient_of(config, devices).lower(*args).compile()
  found = {}
  for line in str(program.as_text()).splitlines():
    operation = re.search(
      r'= (.*?) (all-gather|all-reduce|all-to-all|collective-permute'
      r'|reduce-scatter)(-start)?\(',
      line,
    )
    if operation:
      shapes = re.findall(r'f\d+\[([\d,]*)\]', operation[1])
      sizes = [np.prod([int(n) for n in x.split(',') if n]) for x in shapes]
      found.setdefault(operation[2], []).append(int(np.sum(sizes)))
  return {name: sorted(sizes)[::-1] for name, sizes in found.items()}


@pytest.mark.devices
@pytest.mark.parametrize('how', objective.EXCHANGES)
def test_only_what_is_needed_moves(how):
  moved = traffic(config_of(**{'mining.exchange': how}))
  whole, part = ROWS * IMAGE_DIM, ROWS * IMAGE_DIM // DEVICES
  gathers = [size for size in moved.get('all-gather', []) if size]
  if how == 'gather':
    assert gathers == [whole], 'the images, once, and no text'
    assert 'collective-permute' not in moved
  else:
    assert not gathers, 'images are gathered, which the ring should avoid'
    assert max(moved['collective-permute']) == part
  # Texts and their gradients, and in the ring images.
  sent = moved['all-to-all']
  assert len([size for size in sent if size]) == (2 if how == 'gather' else 3)
  assert max(moved['all-reduce']) < 2 * sum(
    x.size for x in jax.tree.leaves(state_of(config_of()))
  ), 'more than the gradient is summed'


@pytest.mark.slow
def test_one_device_exchanges_nothing():
  assert not traffic(config_of(**{'mining.exchange': 'ring'}), 1)


# The shards of a batch, each by itself.


@pytest.mark.slow
@pytest.mark.parametrize(
  'case',
  ['hardest']
  + [
    pytest.param(case, marks=pytest.mark.slow)
    for case in ('topk_random', 'semihard', 'bank')
  ],
)
def test_the_mean_of_the_shards_is_the_batch(case):
  """Loss and gradient without dropout, which differs between shards."""
  config = config_of(**CASES[case], **{'model.dropout': (0.0, 0.0, 0.0)})
  resident = {'resident': batch_of(seed=1)} if case == 'bank' else {}
  loss = task.make_batch_loss(config, IMAGE_DIM, None)
  gradient = jit(jax.value_and_grad(loss, has_aux=True))
  state, whole, parts = state_of(config), batch_of(), 4
  rows, found = ROWS // parts, []
  for shard in range(parts):
    own = slice(shard * rows, (shard + 1) * rows)
    batch = {name: array[own] for name, array in whole.items()} | resident
    batch |= {'whole': whole, 'virtual_device': np.int32(shard)}
    found.append(gradient(*state, batch, jax.random.key(1)))
  found = jax.device_get(found)
  if case == 'bank':  # The captions of its negatives are drawn by each part.
    assert np.isfinite([value for (value, _), _ in found]).all()
    return
  want, slope = results_of(config, 1, batch_of())
  value = np.mean([value for (value, _), _ in found])
  np.testing.assert_allclose(value, want['loss'], rtol=1e-4)
  for *mine, theirs in zip(
    *(jax.tree.leaves(grads) for _, grads in found),
    jax.tree.leaves(slope),
    strict=True,
  ):
    np.testing.assert_allclose(np.mean(mine, 0), theirs, rtol=1e-3, atol=1e-4)


def test_info_nce_cannot_be_computed_by_shards():
  with pytest.raises(
    ValueError, match=r"config\.loss\.name='info_nce'.*device_count_invariant"
  ):
    task.make_batch_loss(config_of(loss='info_nce'), IMAGE_DIM, None)


def test_what_cannot_be_exchanged_is_refused():
  mesh = mesh_of(1)
  fields = {'mining.exchange': 'ring', 'mining.bank': True}
  with pytest.raises(ValueError, match=r'config\.mining\.bank=True'):
    objective.make_mining(config_of(**fields).mining, mesh)
