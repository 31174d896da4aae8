"""The mixing methods that are guided by saliency, in a step of training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmix
from jaxmix.classification import mixing, task
from jaxmix.classification.losses import PairTargets
from launch.mesh import batch_sharded, make_mesh, replicated
from tests.jaxmix import drawn
from tests.jaxmix.classification.task_test import (
  BATCH,
  collectives,
  cross_entropy,
  forward,
  make_config,
  on_virtual_devices,
  one_device,
  some_batch,
  some_state,
)

METHODS = ('saliency_mix', 'puzzle_mix', 'co_mixup')
every_method = pytest.mark.parametrize('method', METHODS)
# Co-Mixup uses all inputs; the gradients of the others take long to compile.
every_gradient = pytest.mark.parametrize(
  'method',
  [
    pytest.param('saliency_mix', marks=pytest.mark.slow),
    pytest.param('puzzle_mix', marks=pytest.mark.slow),
    'co_mixup',
  ],
)


def postprocess(pixels):
  return (pixels / 255 - 0.3058) / 0.3761


@functools.cache
def config_of(method):
  # One size of blocks: each is a program of its own, long to compile.
  one = {'mix.blocks': (4,)} if method == 'puzzle_mix' else {}
  return make_config(f'method={method}', **{'augment.pad': 0}, **one)


@functools.cache
def compiled(method):
  """Returns the gradient, compiled once."""
  loss = task.make_loss(config_of(method), one_device())
  return drawn.quick(jax.value_and_grad(loss, has_aux=True))


@functools.cache
def inputs():
  return some_state(config_of('saliency_mix')), some_batch()


@functools.cache
def mixing_of(method):
  """Returns the mixing alone, compiled once."""
  context = mixing.MixContext(BATCH, (8, 8, 1), 10, one_device(), postprocess)
  mix = mixing.make(config_of(method).mix, context)

  def alone(state, key, images, labels):
    network = functools.partial(forward, state, train=True)
    return mix(key, jnp.arange(1), images, labels, network)

  return drawn.quick(alone)


def dense(mixed, labels):
  """The targets as rows."""
  rows = np.eye(10)[np.asarray(labels)]
  if isinstance(mixed.targets, PairTargets):
    lam, partner = map(np.asarray, mixed.targets)
    return lam[:, None] * rows + (1 - lam[:, None]) * rows[partner]
  return np.asarray(mixed.targets)


@pytest.mark.slow
@every_gradient
def test_the_loss_is_that_of_the_mixed_images_and_their_shares(method):
  (state, batch), gradient = inputs(), compiled(method)
  key = jax.random.key(4)  # a ratio that mixes
  (found, (_, metrics)), _ = gradient(*state, batch, key)
  mix_key = jax.random.split(key)[1]
  mixed = mixing_of(method)(state, mix_key, batch['image'], batch['label'])
  assert mixed.images.shape == batch['image'].shape
  targets = dense(mixed, batch['label'])
  np.testing.assert_allclose(targets.sum(1), 1, atol=1e-5)
  want = cross_entropy(forward(state, mixed.images, train=True), targets)
  assert found == pytest.approx(want, rel=1e-4)
  plain = forward(
    state, postprocess(batch['image'] / jnp.float32(1)), train=True
  )
  rows = np.eye(10)[np.asarray(batch['label'])]
  assert found != pytest.approx(cross_entropy(plain, rows), rel=1e-3)
  own = targets[np.arange(BATCH), np.asarray(batch['label'])]
  if isinstance(mixed.targets, PairTargets):  # without what equal labels add
    own = np.asarray(mixed.targets.lam)
  assert metrics['lambda'] == pytest.approx(own.mean(), abs=1e-5)


@every_gradient
def test_the_gradient_is_finite_and_the_statistics_move_once(method):
  ((params, stats), batch), gradient = inputs(), compiled(method)
  (_, (new, _)), grads = gradient(params, stats, batch, jax.random.key(1))
  for tree in grads, new:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
      assert np.any(leaf), f'{jax.tree_util.keystr(path)} is 0 everywhere'
  assert jax.tree.structure(new) == jax.tree.structure(stats)
  moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), new, stats)
  assert all(jax.tree.leaves(moved)), f'statistics that stay: {moved}'


@pytest.mark.parametrize(
  'method, field, value',
  [
    ('puzzle_mix', 'blocks', (3,)),
    ('co_mixup', 'grid', 3),
  ],
)
def test_an_option_that_does_not_fit_the_batch_is_named(method, field, value):
  config = make_config(f'method={method}', **{f'mix.{field}': value})
  with pytest.raises(ValueError, match=rf'^config\.mix\.{field}='):
    task.make_loss(config, one_device())


def test_saliency_mix_is_that_of_the_library():
  (state, batch), key = inputs(), jax.random.key(5)
  mixed = mixing_of('saliency_mix')(state, key, batch['image'], batch['label'])

  @drawn.quick
  def by_hand(key, images):
    mix = jaxmix.draw_saliency_mix(key, jaxmix.spectral_residual(images))
    return mix, jaxmix.apply(mix, images)

  mix, images = by_hand(key, batch['image'])
  want = postprocess(np.asarray(images, np.float32))
  np.testing.assert_allclose(mixed.images, want, atol=1e-6)
  np.testing.assert_array_equal(mixed.targets.partner, mix.partner)
  np.testing.assert_array_equal(mixed.targets.lam, mix.lam)


def gradient_by_hand(state, batch):
  """The root mean square over the channels, of which the digits have one."""

  def loss(images):
    log_probs = jax.nn.log_softmax(forward(state, images, train=True))
    return -log_probs[jnp.arange(BATCH), batch['label']].sum()

  images = postprocess(batch['image'].astype(jnp.float32))
  return jnp.abs(drawn.quick(jax.grad(loss))(images))[..., 0]


@pytest.mark.slow
def test_puzzle_mix_is_guided_by_the_gradient_of_the_network():
  state, batch = inputs()
  key, options = jax.random.key(5), config_of('puzzle_mix').mix.to_dict()
  options.pop('name')
  mixed = mixing_of('puzzle_mix')(state, key, batch['image'], batch['label'])
  saliency = gradient_by_hand(state, batch)
  draw = drawn.quick(functools.partial(jaxmix.draw_puzzle_mix, **options))
  mix = draw(key, saliency, batch['image'])
  assert 0 < np.mean(mix.lam) < 1
  np.testing.assert_array_equal(mixed.targets.partner, mix.partner)
  # A float32 gradient has several last digits, and a block may tip.
  same = np.abs(np.asarray(mixed.targets.lam) - mix.lam) < 1e-5
  assert same.mean() > 0.9
  want = jaxmix.apply(mix, batch['image'], postprocess=postprocess)
  np.testing.assert_allclose(mixed.images[same], want[same], atol=1e-6)


@pytest.mark.devices
@every_method
def test_a_step_moves_sums_but_no_pixels(method):
  config, mesh = on_virtual_devices(config_of(method)), make_mesh()
  state = jax.device_put(some_state(config), replicated(mesh))
  batch = jax.device_put(some_batch(), batch_sharded(mesh))
  key = jax.device_put(jax.random.key(0), replicated(mesh))
  gradient = jax.grad(task.make_loss(config, mesh), has_aux=True)
  assert collectives(gradient, *state, batch, key) == {'all-reduce'}
