"""Every public function in every setting of jax: a table of name x setting.

What needs a trace only runs in `make test`. One program has all functions, so
that each setting that needs values compiles once.
"""

import contextlib
import functools
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxmix
from tests.jaxmix import drawn
from tests.jaxmix.drawn import GRANULARITIES, MODES

SHAPE = (16, 8, 12, 2)
BATCH, CLASSES, STEPS = SHAPE[0], 4, 4
AXIS = 'data'
KEYS = jax.random.split(jax.random.key(12), STEPS)


class Batch(NamedTuple):
  """What the functions read: arrays with one row for each sample."""

  images: Any
  labels: Any
  logits: Any
  saliency: Any
  partner: Any
  owner: Any


def make_batch():
  rng = np.random.default_rng(0)
  return Batch(
    images=rng.normal(size=SHAPE).astype(np.float32),
    labels=np.arange(BATCH, dtype=np.int32) % CLASSES,
    logits=rng.normal(size=(BATCH, CLASSES)).astype(np.float32),
    saliency=rng.random(size=SHAPE[:-1]).astype(np.float32),
    # Also valid for each eighth of the batch.
    partner=np.arange(BATCH, dtype=np.int32)[::-1] % 2,
    owner=np.arange(BATCH * 4, dtype=np.int32).reshape(BATCH, 2, 2) % 2,
  )


BATCHED = make_batch()
# Two candidates: a switch of four takes long to compile, and is compiled and
# run in mix_test and random_mix_test.
TWO = ('mixup', 'resizemix')
PUZZLE = {'blocks': (2,), 'levels': 2, 'transport_cost': None}  # transport_test
CO = {'grid': 2, 'sweeps': 1}


def mixed(name, **options):
  """A one-call function."""
  function = getattr(jaxmix, name)
  return lambda key, b: function(
    key, b.images, b.labels, num_classes=CLASSES, **options
  )


def draw(name, **options):
  """A draw for the shape of the images, with partners that are given."""
  function = getattr(jaxmix, name)
  return lambda key, b: function(
    key, b.images.shape, partner=b.partner, **options
  )


def patchup_of(key, b):
  return jaxmix.draw_patchup(
    key, {0: b.images.shape, 1: b.images.shape}, block_size=3
  )


def mix_of(key, b):
  return jaxmix.draw_mixup(key, b.images.shape, granularity='sample')


CALLS = {
  **{mode: mixed(mode, granularity='sample') for mode in MODES},
  **{f'draw_{mode}': draw(f'draw_{mode}') for mode in (*MODES, 'identity')},
  'random_mix': mixed('random_mix', candidates=TWO),
  'draw_random_mix': draw(
    'draw_random_mix', candidates=TWO, granularity='sample'
  ),
  'cutout': mixed('cutout', length=5),
  'draw_cutout': lambda key, b: jaxmix.draw_cutout(key, b.images.shape),
  'fill_box': lambda key, b: jaxmix.fill_box(
    b.images, jaxmix.draw_cutout(key, b.images.shape, length=5)
  ),
  'draw_partner': lambda key, b: jaxmix.draw_partner(
    key, len(b.images), pairing='derangement'
  ),
  'apply': lambda key, b: jaxmix.apply(mix_of(key, b), b.images),
  'mix_labels': lambda key, b: jaxmix.mix_labels(
    mix_of(key, b), b.labels, num_classes=CLASSES
  ),
  'mixed_cross_entropy': lambda key, b: jaxmix.mixed_cross_entropy(
    b.logits, b.labels, mix_of(key, b)
  ),
  'mixed_sigmoid_cross_entropy': lambda key, b: (
    jaxmix.mixed_sigmoid_cross_entropy(b.logits, b.labels, mix_of(key, b))
  ),
  'with_lengths': lambda key, b: jaxmix.with_lengths(
    mix_of(key, b), b.labels + 1
  ),
  'draw_manifold_mixup': lambda key, b: jaxmix.draw_manifold_mixup(
    key, len(b.images)
  ),
  'draw_patchup': patchup_of,
  'apply_hidden': lambda key, b: jaxmix.apply_hidden(
    patchup_of(key, b), 1, b.images
  ),
  'spectral_residual': lambda key, b: jaxmix.spectral_residual(b.images),
  'gradient_saliency': lambda key, b: jaxmix.gradient_saliency(b.images),
  'draw_saliency_mix': lambda key, b: jaxmix.draw_saliency_mix(key, b.saliency),
  'saliency_mix': mixed('saliency_mix', granularity='sample'),
  'draw_puzzle_mix': lambda key, b: jaxmix.draw_puzzle_mix(
    key, b.saliency, b.images, **PUZZLE
  ),
  'puzzle_mix': lambda key, b: mixed(
    'puzzle_mix', saliency=b.saliency, granularity='sample', **PUZZLE
  )(key, b),
  'draw_co_mixup': lambda key, b: jaxmix.draw_co_mixup(key, b.saliency, **CO),
  'co_mixup': lambda key, b: mixed('co_mixup', saliency=b.saliency, **CO)(
    key, b
  ),
  'take_blocks': lambda key, b: jaxmix.take_blocks(b.images, b.owner),
  'block_labels': lambda key, b: jaxmix.block_labels(
    b.labels, b.owner, num_classes=CLASSES
  ),
}
NAMES = sorted(CALLS)
PUBLIC = {n for n in vars(jaxmix) if callable(getattr(jaxmix, n))}
# These take no array with a row for each sample: nothing is sharded.
WITHOUT_BATCH = {
  'draw_cutout',
  'draw_manifold_mixup',
  'draw_partner',
  'draw_patchup',
}
WITHOUT_KEY = {
  'block_labels',
  'draw_identity',
  'gradient_saliency',
  'spectral_residual',
  'take_blocks',
}


def call_everything(key, batch):
  """Returns the result of every public function, by name."""
  return {name: call(key, batch) for name, call in CALLS.items()}


everything = drawn.quick(call_everything)


def test_every_public_function_is_in_the_table():
  assert PUBLIC - {'Mix', 'HiddenMix'} == set(NAMES)


@functools.cache
def one_by_one():
  results = [everything(key, BATCHED) for key in KEYS]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *results)


def expected(name):
  """Returns the result for the first key."""
  return jax.tree.map(lambda leaf: leaf[0], one_by_one()[name])


def check_same(got, want, message):
  def same(got, want):
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape, message
    if np.issubdtype(got.dtype, np.floating):
      np.testing.assert_allclose(got, want, atol=1e-5, err_msg=message)
    else:
      np.testing.assert_array_equal(got, want, message)

  assert jax.tree.structure(got) == jax.tree.structure(want), message
  jax.tree.map(same, got, want)


SETTINGS = {
  'default': contextlib.nullcontext,
  'rank_promotion': lambda: jax.numpy_rank_promotion('raise'),
  'dtype_promotion': lambda: jax.numpy_dtype_promotion('strict'),
  'x64': lambda: jax.enable_x64(True),
  'checking_leaks': jax.checking_leaks,
  'debug_nans': lambda: jax.debug_nans(True),
}


@functools.cache
def types(name):
  return jax.eval_shape(CALLS[name], KEYS[0], BATCHED)


@pytest.mark.parametrize(
  'setting', ['rank_promotion', 'dtype_promotion', 'x64']
)
@pytest.mark.parametrize('name', NAMES)
def test_the_types_are_the_same_in(name, setting):
  with SETTINGS[setting]():
    got = jax.eval_shape(CALLS[name], KEYS[0], BATCHED)
  assert got == types(name)


# The first call compiles every operation by itself.
@pytest.mark.slow
@pytest.mark.parametrize('setting', SETTINGS)
@pytest.mark.parametrize('name', NAMES)
def test_without_jit_the_values_are_the_same_in(name, setting):
  with SETTINGS[setting]():
    check_same(CALLS[name](KEYS[0], BATCHED), expected(name), setting)


@functools.cache
def jitted_in(setting):
  with SETTINGS[setting]():
    return everything(KEYS[0], BATCHED)


@pytest.mark.slow
@pytest.mark.parametrize('setting', list(SETTINGS)[1:])
@pytest.mark.parametrize('name', NAMES)
def test_with_jit_the_values_are_the_same_in(name, setting):
  check_same(jitted_in(setting)[name], expected(name), setting)


@functools.cache
def donated():
  batch = jax.tree.map(jnp.array, BATCHED)
  result = drawn.quick(call_everything, donate_argnums=1)(KEYS[0], batch)
  assert batch.images.is_deleted()
  return result


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_the_batch_can_be_donated(name):
  check_same(donated()[name], expected(name), 'another result')


@functools.cache
def scanned_and_vmapped():
  """One program for both: a scan over the steps of vmap over two keys each."""

  def step(count, keys):
    call = jax.vmap(call_everything, in_axes=(0, None))
    return count + 1, call(keys, BATCHED)

  @drawn.quick
  def run(keys):
    pairs = keys.reshape(STEPS // 2, 2)
    result = jax.lax.scan(step, 0, pairs)[1]
    return jax.tree.map(lambda x: x.reshape(STEPS, *x.shape[2:]), result)

  return run(KEYS)


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_scan_and_vmap_are_loops(name):
  check_same(
    scanned_and_vmapped()[name], one_by_one()[name], 'another result in a loop'
  )


@pytest.mark.parametrize('name', [n for n in NAMES if n not in WITHOUT_KEY])
def test_every_key_gives_another_result(name):
  leaves = jax.tree.leaves(one_by_one()[name])
  assert any((leaf[0] != leaf[1:]).any() for leaf in leaves)


# For a given draw these are linear in the images.
LINEAR = [*MODES, 'random_mix', 'cutout', 'fill_box', 'apply', 'apply_hidden']
LINEAR += ['co_mixup', 'take_blocks']


@functools.cache
def slopes():
  """By name: the change of a score, its derivative, and that backwards."""
  other, direction = np.random.default_rng(1).normal(size=(2, *SHAPE))
  other, direction = other.astype(np.float32), direction.astype(np.float32)

  def scores(images):
    batch = BATCHED._replace(images=images)
    results = {name: CALLS[name](KEYS[0], batch) for name in LINEAR}
    return {
      name: jnp.vdot(other, result[0] if isinstance(result, tuple) else result)
      for name, result in results.items()
    }

  @drawn.quick
  def run(images):
    low, forward = jax.jvp(scores, (images,), (direction,))
    _, backward = jax.vjp(scores, images)
    zero = dict.fromkeys(low, jnp.float32(0))
    back = {
      name: jnp.vdot(direction, backward({**zero, name: jnp.float32(1)})[0])
      for name in low
    }
    return low, forward, back

  low, forward, back = run(BATCHED.images)
  high, _, _ = run(BATCHED.images + direction)
  return {n: (high[n] - low[n], forward[n], back[n]) for n in LINEAR}


@pytest.mark.slow  # mix_test has the gradient of each mode
@pytest.mark.parametrize('name', LINEAR)
def test_gradients_of_images(name):
  change, forward, back = slopes()[name]
  np.testing.assert_allclose(forward, change, rtol=1e-3, atol=1e-2)
  np.testing.assert_allclose(back, forward, rtol=1e-4, atol=1e-3)


def test_a_mix_is_a_pytree():
  draw = functools.partial(jaxmix.draw_resizemix, shape=SHAPE)
  mix = jax.eval_shape(draw, KEYS[0])
  leaves, tree = jax.tree.flatten(mix)
  again = jax.tree.unflatten(tree, leaves)
  assert again.method == mix.method == 'nearest'
  assert len(leaves) == 2 + 1 + 2  # lam, partner; box; two sources


# Meshes. One device is enough for what the types say; eight are for the values.


def mesh_of(count, kind):
  types = {} if kind == 'default' else {'axis_types': (AxisType.Auto,)}
  return jax.make_mesh((count,), (AXIS,), **types)


def sharded(mesh):
  sharding = NamedSharding(mesh, PartitionSpec(AXIS))
  return Batch(*(jax.device_put(x, sharding) for x in BATCHED))


@pytest.mark.parametrize('name', NAMES)
def test_the_types_are_the_same_on_the_default_mesh(name):
  batch = sharded(mesh_of(1, 'default'))
  got = jax.eval_shape(CALLS[name], KEYS[0], batch)
  check_types(got, name)


def check_types(got, name):
  want = types(name)
  assert jax.tree.structure(got) == jax.tree.structure(want)
  for leaf, known in zip(
    jax.tree.leaves(got), jax.tree.leaves(want), strict=True
  ):
    assert (leaf.shape, leaf.dtype) == (known.shape, known.dtype)
    if name not in WITHOUT_BATCH and leaf.shape[:1] == (BATCH,):
      assert leaf.sharding.spec[0] == AXIS


# (devices, mesh, jit, whether jax.set_mesh is used)
PLACES = [
  (1, 'default', True, False),
  (4, 'default', True, True),
  (8, 'default', True, False),
  (1, 'default', False, True),
  (4, 'default', False, False),
  (8, 'default', False, True),
  (4, 'auto', False, False),
  (8, 'auto', True, True),
]


@functools.cache
def on_mesh(place):
  count, kind, jit, in_context = place
  mesh = mesh_of(count, kind)
  batch = sharded(mesh)
  call = everything if jit else call_everything
  with jax.set_mesh(mesh) if in_context else contextlib.nullcontext():
    return jax.block_until_ready(call(KEYS[0], batch))


@pytest.mark.devices
@pytest.mark.parametrize('place', PLACES, ids=str)
@pytest.mark.parametrize('name', NAMES)
def test_a_mesh_changes_nothing(name, place):
  got, want = on_mesh(place)[name], expected(name)
  check_same(got, want, 'one device and several differ')
  _, kind, _, _ = place
  if kind == 'default':
    check_types(got, name)


@functools.cache
def shard_by_shard():
  """The results of two samples each, with a key for each shard."""
  parts = []
  for i in range(8):
    shard = jax.tree.map(lambda x, i=i: x[2 * i : 2 * i + 2], BATCHED)
    parts.append(everything(jax.random.fold_in(KEYS[0], i), shard))
  return jax.tree.map(lambda *leaves: np.stack(leaves), *parts)


def own_shard(key, batch):
  """Calls everything with the samples of a device."""
  key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
  return call_everything(key, batch)


@functools.cache
def mapped(how):
  if how == 'pmap':
    shards = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), BATCHED)
    call = jax.pmap(own_shard, axis_name=AXIS, in_axes=(None, 0))
    return jax.block_until_ready(call(KEYS[0], shards))
  kind, check_vma = how
  mesh = mesh_of(8, kind)
  call = jax.shard_map(
    lambda key, batch: jax.tree.map(
      lambda leaf: leaf[None], own_shard(key, batch)
    ),
    mesh=mesh,
    in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
    out_specs=PartitionSpec(AXIS),
    check_vma=check_vma,
  )
  return jax.block_until_ready(drawn.quick(call)(KEYS[0], sharded(mesh)))


@pytest.mark.devices
@pytest.mark.parametrize(
  'how',
  ['pmap', ('default', True), ('default', False), ('auto', True)],
  ids=str,
)
@pytest.mark.parametrize('name', NAMES)
def test_each_device_calls_it_with_its_own_samples(name, how):
  check_same(mapped(how)[name], shard_by_shard()[name], 'not the loop')


WIDE = (16, 6, 4, 2)
COLLECTIVES = r'all-(gather|reduce|to-all)|collective-permute|reduce-scatter'


def wide_batch():
  images = np.random.default_rng(3).normal(size=WIDE).astype(np.float32)
  return images, np.arange(WIDE[0], dtype=np.int32) % CLASSES


def random_mix_of(granularity):
  return functools.partial(
    jaxmix.random_mix, num_classes=CLASSES, granularity=granularity
  )


def patchup(key, images, labels):
  mix = jaxmix.draw_patchup(key, {1: images.shape}, block_size=3)
  labels = jaxmix.mix_labels(mix, labels, num_classes=CLASSES)
  return jaxmix.apply_hidden(mix, 1, images), labels


def mix_in_shards(mesh, mix, check_vma):
  spec = PartitionSpec(AXIS)
  return jax.shard_map(
    lambda key, *batch: mix(
      jax.random.fold_in(key, jax.lax.axis_index(AXIS)), *batch
    ),
    mesh=mesh,
    in_specs=(PartitionSpec(), spec, spec),
    out_specs=spec,
    check_vma=check_vma,
  )


IN_SHARDS = {
  **{
    f'{mode}-{granularity}': functools.partial(
      drawn.MIX[mode], num_classes=CLASSES, granularity=granularity
    )
    for mode in MODES
    for granularity in GRANULARITIES
  },
  **{f'random_mix-{g}': random_mix_of(g) for g in GRANULARITIES},
  'patchup': patchup,
  'mixup-alpha': functools.partial(
    jaxmix.mixup, num_classes=CLASSES, alpha=0.2
  ),
  'resizemix-linear': functools.partial(
    jaxmix.resizemix, num_classes=CLASSES, method='linear'
  ),
  'saliency_mix': functools.partial(jaxmix.saliency_mix, num_classes=CLASSES),
  'puzzle_mix': functools.partial(
    jaxmix.puzzle_mix, num_classes=CLASSES, blocks=(2,)
  ),
  'co_mixup': functools.partial(
    jaxmix.co_mixup, num_classes=CLASSES, grid=2, sweeps=1
  ),
  'fmix-soft': functools.partial(
    jaxmix.fmix, num_classes=CLASSES, max_soft=0.2
  ),
}


@pytest.mark.parametrize('name', IN_SHARDS)
def test_shard_map_takes_a_key_for_each_shard(name):
  # shard_map types every value by the axes it varies over. With a key that
  # varies, so must all branches of a switch and all carries of a loop. This is
  # checked while tracing, so one device is enough.
  mesh = mesh_of(1, 'auto')
  mixed = mix_in_shards(mesh, IN_SHARDS[name], True)
  images, _ = jax.eval_shape(mixed, jax.random.key(0), *wide_batch())
  assert images.shape == WIDE


@pytest.mark.devices
@pytest.mark.parametrize('check_vma', [True, False])
def test_mixing_within_shards_needs_no_communication(check_vma):
  mesh = mesh_of(8, 'auto')
  mixed = jax.jit(mix_in_shards(mesh, random_mix_of('batch'), check_vma))
  sharding = NamedSharding(mesh, PartitionSpec(AXIS))
  images, labels = (jax.device_put(x, sharding) for x in wide_batch())
  program = mixed.lower(jax.random.key(15), images, labels).compile()
  collectives = re.findall(COLLECTIVES, program.as_text() or '')
  assert not collectives, f'mixing within a shard uses {collectives}'


@pytest.mark.devices
@pytest.mark.parametrize('kind', ['default', 'auto'])
@pytest.mark.parametrize('granularity', GRANULARITIES)
def test_a_sharded_batch_of_bytes_is_mixed_to_the_same_bits(granularity, kind):
  # All four modes, as in the first example of the README.
  mix = jax.jit(random_mix_of(granularity))
  images, labels = wide_batch()
  batch = ((images * 50 + 128).astype(np.uint8), labels)
  sharding = NamedSharding(mesh_of(8, kind), PartitionSpec(AXIS))
  shards = [jax.device_put(x, sharding) for x in batch]
  for seed in (0, 1, 2, 3):
    key = jax.random.key(seed)
    got = jax.block_until_ready(mix(key, *shards))
    want = jax.block_until_ready(mix(key, *batch))
    assert len(got[0].sharding.device_set) == 8, 'the batch was gathered'
    check_same(list(got), list(want), 'one device and eight differ')
