"""Tests of every public function under jit, vmap, scan, grad and shard_map."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxmix
from tests.jaxmix import drawn
from tests.jaxmix.drawn import GRANULARITIES, MODES

SHAPE = drawn.IMAGES
BATCH, CLASSES, STEPS = SHAPE[0], 4, 4
rng = np.random.default_rng(0)
IMAGES = rng.normal(size=SHAPE).astype(np.float32)
LABELS = np.arange(BATCH, dtype=np.int32) % CLASSES
LOGITS = rng.normal(size=(BATCH, CLASSES)).astype(np.float32)
KEYS = jax.random.split(jax.random.key(12), STEPS)


# A one-call function is a draw and its application. What it calls needs no call
# of its own: every loop and switch that is compiled twice costs seconds.
CALLED_INSIDE = {
  'draw_co_mixup': 'co_mixup',
  'take_blocks': 'co_mixup',
  'block_labels': 'co_mixup',
  'draw_puzzle_mix': 'puzzle_mix',
  'draw_saliency_mix': 'saliency_mix',
  'spectral_residual': 'saliency_mix',
  'draw_cutout': 'cutout',
  'fill_box': 'cutout',
  'draw_identity': 'cutout',
  'draw_partner': 'mixup',
  **{f'draw_{mode}': mode for mode in MODES},
}


def call_everything(key, images, labels, logits):
  """Returns the result of every public function, by name."""
  # Two candidates: a switch of four takes long to compile, and is compiled and
  # run in mix_test and random_mix_test.
  two = ('mixup', 'resizemix')
  mix = jaxmix.draw_random_mix(key, SHAPE, granularity='sample', candidates=two)
  hidden = jaxmix.draw_patchup(key, {0: SHAPE, 1: SHAPE}, block_size=3)
  square = images[:, :8, :8]  # blocks divide its sides
  saliency = jaxmix.gradient_saliency(square)
  result = {
    'draw_manifold_mixup': jaxmix.draw_manifold_mixup(key, BATCH),
    'draw_patchup': hidden,
    'apply_hidden': jaxmix.apply_hidden(hidden, 1, images),
    'draw_random_mix': mix,
    'apply': jaxmix.apply(mix, images),
    'mix_labels': jaxmix.mix_labels(mix, labels, num_classes=CLASSES),
    'mixed_cross_entropy': jaxmix.mixed_cross_entropy(logits, labels, mix),
    'mixed_sigmoid_cross_entropy': jaxmix.mixed_sigmoid_cross_entropy(
      logits, labels, mix
    ),
    'with_lengths': jaxmix.with_lengths(mix, labels + 1),
    'random_mix': jaxmix.random_mix(
      key, images, labels, num_classes=CLASSES, candidates=two
    ),
    'cutout': jaxmix.cutout(key, images, labels, num_classes=CLASSES, length=5),
    'gradient_saliency': saliency,
    'saliency_mix': jaxmix.saliency_mix(
      key, images, labels, num_classes=CLASSES, granularity='sample'
    ),
    'puzzle_mix': jaxmix.puzzle_mix(
      key,
      square,
      labels,
      num_classes=CLASSES,
      saliency=saliency,
      blocks=(2,),
      levels=2,
      transport_cost=None,  # transport_test vmaps it
      granularity='sample',
    ),
    'co_mixup': jaxmix.co_mixup(
      key,
      square,
      labels,
      num_classes=CLASSES,
      saliency=saliency,
      grid=2,
      sweeps=1,
    ),
  }
  for mode in MODES:
    result[mode] = drawn.MIX[mode](
      key, images, labels, num_classes=CLASSES, granularity='sample'
    )
  return result


PUBLIC = sorted(n for n in vars(jaxmix) if callable(getattr(jaxmix, n)))
NAMES = [
  n for n in PUBLIC if n not in ('Mix', 'HiddenMix') and n not in CALLED_INSIDE
]

everything = drawn.quick(call_everything)


@functools.cache
def one_by_one():
  results = [everything(key, IMAGES, LABELS, LOGITS) for key in KEYS]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *results)


@functools.cache
def without_jit():
  return call_everything(KEYS[0], IMAGES, LABELS, LOGITS)


@functools.cache
def scanned_and_vmapped():
  """One program for both: a scan over the steps of vmap over two keys each."""

  def step(count, keys):
    call = jax.vmap(call_everything, in_axes=(0, None, None, None))
    return count + 1, call(keys, IMAGES, LABELS, LOGITS)

  @drawn.quick
  def run(keys):
    pairs = keys.reshape(STEPS // 2, 2)
    result = jax.lax.scan(step, 0, pairs)[1]
    return jax.tree.map(lambda x: x.reshape(STEPS, *x.shape[2:]), result)

  return run(KEYS)


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


@pytest.mark.slow
def test_every_public_function_is_called():
  assert set(one_by_one()) == set(NAMES), (
    'a public function is not tested under the transformations'
  )


@pytest.mark.slow  # compiles every operation by itself
@pytest.mark.parametrize('name', NAMES)
def test_jit_changes_nothing(name):
  want = jax.tree.map(lambda leaf: leaf[0], one_by_one()[name])
  check_same(without_jit()[name], want, 'jit and no jit differ')


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
def test_scan_and_vmap_are_loops(name):
  check_same(
    scanned_and_vmapped()[name], one_by_one()[name], 'another result in a loop'
  )


@pytest.mark.parametrize('name', [n for n in NAMES if n != 'gradient_saliency'])
def test_every_key_gives_another_result(name):
  leaves = jax.tree.leaves(one_by_one()[name])
  assert any((leaf[0] != leaf[1:]).any() for leaf in leaves)


@pytest.mark.slow  # mix_test has the gradient of each mode
def test_gradients():
  # The modes are linear in the images, so a finite difference is exact.
  other, direction = np.random.default_rng(1).normal(size=(2, *SHAPE))

  def score(images):
    mixed, _ = jaxmix.random_mix(
      jax.random.key(14),
      images,
      jnp.asarray(LABELS),
      num_classes=CLASSES,
      candidates=('mixup', 'cutmix', 'resizemix'),
      granularity='sample',
    )
    return jnp.vdot(other.astype(np.float32), mixed)

  both = drawn.quick(jax.value_and_grad(score))
  low, slope = both(IMAGES)
  high, _ = both((IMAGES + direction).astype(np.float32))
  np.testing.assert_allclose(
    np.vdot(slope, direction), high - low, rtol=1e-3, atol=1e-2
  )


def test_a_mix_is_a_pytree():
  draw = functools.partial(jaxmix.draw_resizemix, shape=SHAPE)
  mix = jax.eval_shape(draw, KEYS[0])
  leaves, tree = jax.tree.flatten(mix)
  again = jax.tree.unflatten(tree, leaves)
  assert again.method == mix.method == 'nearest'
  assert len(leaves) == 2 + 1 + 2  # lam, partner; box; two sources


# Eight devices.

WIDE = (16, 6, 4, 2)
AXIS = 'data'
COLLECTIVES = r'all-(gather|reduce|to-all)|collective-permute|reduce-scatter'


def make_mesh():
  return jax.make_mesh((8,), (AXIS,), axis_types=(AxisType.Auto,))


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


def mix_shard(key, images, labels):
  """Mixes within a shard, as in a batch-sharded step."""
  key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
  return random_mix_of('batch')(key, images, labels)


@functools.cache
def shard_by_shard():
  images, labels = wide_batch()
  mix = jax.jit(random_mix_of('batch'))
  parts = []
  for i in range(8):
    shard = slice(2 * i, 2 * i + 2)
    key = jax.random.fold_in(jax.random.key(15), i)
    part = mix(key, images[shard], labels[shard])
    parts.append(jax.block_until_ready(part))
  return [np.concatenate(p) for p in zip(*parts, strict=True)]


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
  mesh = jax.make_mesh((1,), (AXIS,), axis_types=(AxisType.Auto,))
  mixed = mix_in_shards(mesh, IN_SHARDS[name], True)
  images, _ = jax.eval_shape(mixed, jax.random.key(0), *wide_batch())
  assert images.shape == WIDE


@pytest.mark.devices
@pytest.mark.parametrize('check_vma', [True, False])
def test_mixing_within_shards_needs_no_communication(check_vma):
  mesh = make_mesh()
  mixed = jax.jit(mix_in_shards(mesh, random_mix_of('batch'), check_vma))
  sharding = NamedSharding(mesh, PartitionSpec(AXIS))
  images, labels = (jax.device_put(x, sharding) for x in wide_batch())
  program = mixed.lower(jax.random.key(15), images, labels).compile()
  collectives = re.findall(COLLECTIVES, program.as_text() or '')
  assert not collectives, f'mixing within a shard uses {collectives}'
  got = jax.block_until_ready(program(jax.random.key(15), images, labels))
  check_same(list(got), shard_by_shard(), 'shard_map is not the loop')


@pytest.mark.devices
def test_pmap():
  images, labels = wide_batch()
  mixed = jax.pmap(mix_shard, axis_name=AXIS, in_axes=(None, 0, 0))
  got = jax.block_until_ready(
    mixed(
      jax.random.key(15),
      images.reshape(8, 2, *WIDE[1:]),
      labels.reshape(8, 2),
    )
  )
  got = [np.asarray(x).reshape(16, *x.shape[2:]) for x in got]
  check_same(got, shard_by_shard(), 'pmap is not the loop')


@pytest.mark.devices
@pytest.mark.parametrize('granularity', GRANULARITIES)
def test_a_sharded_batch_is_mixed_as_on_one_device(granularity):
  mix = jax.jit(random_mix_of(granularity))
  batch = wide_batch()
  sharding = NamedSharding(make_mesh(), PartitionSpec(AXIS))
  sharded = [jax.device_put(x, sharding) for x in batch]
  for seed in (0, 1, 2, 3):
    key = jax.random.key(seed)
    got = jax.block_until_ready(mix(key, *sharded))
    want = jax.block_until_ready(mix(key, *batch))
    assert len(got[0].sharding.device_set) == 8, 'the batch was gathered'
    check_same(list(got), list(want), 'one device and eight differ')
