"""The mixing methods that mix activations, in a step of training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from ml_collections import ConfigDict

import jaxmix
from jaxmix.classification import losses, mixing, models, task
from launch.mesh import batch_sharded, make_mesh, replicated
from tests.jaxmix import drawn
from tests.jaxmix.classification.task_test import (
  BATCH,
  by_hand,
  collectives,
  make_config,
  on_virtual_devices,
  one_device,
  some_batch,
  some_state,
)

# What a step may draw: the number of the activations, or -1 for none.
DRAWN = {
  'manifold_mixup': (0, 2, 3),
  'patchup_hard': (-1, 0, 1, 2),
  'patchup_soft': (0, 1, 2),
}
# Soft PatchUp differs from hard in what is drawn alone.
every_method = pytest.mark.parametrize(
  'method', ['manifold_mixup', 'patchup_hard']
)
every_draw = pytest.mark.parametrize(
  'method, layer',
  [
    pytest.param(
      method, k, marks=[pytest.mark.slow] if method == 'patchup_soft' else []
    )
    for method, numbers in DRAWN.items()
    for k in numbers
  ],
)


@functools.cache
def config_of(method):
  return make_config(f'method={method}', **{'augment.pad': 0})


@functools.cache
def shapes_of():
  config = config_of('manifold_mixup')
  return models.activation_shapes(models.create(config.model, 10), (8, 8, 1))


def draw(method, key, rows=BATCH):
  """What the library draws with the options of the config."""
  options = config_of(method).mix.to_dict()
  name, layers = options.pop('name'), options.pop('layers')
  if name == 'manifold_mixup':
    return jaxmix.draw_manifold_mixup(key, rows, layers=layers, **options)
  shapes = {k: (rows, *shapes_of()[k]) for k in layers}
  return jaxmix.draw_patchup(key, shapes, **options)


@functools.cache
def draws(method):
  """For each state a key of a step that draws it, and what it draws."""
  program = drawn.quick(functools.partial(draw, method))
  found = {}
  for seed in range(60):
    key = jax.random.key(seed)
    one = program(jax.random.split(key)[1])
    # An empty box, which changes nothing, is not wanted.
    if one.layer == -1 or one.lam[0] < 1:
      found.setdefault(int(one.layer), (key, one))
  assert found.keys() == set(DRAWN[method])
  return found


@functools.cache
def compiled(method):
  """The gradient of the loss."""
  loss = task.make_loss(config_of(method), one_device())
  return drawn.quick(jax.value_and_grad(loss, has_aux=True))


@functools.cache
def state_and_batch():
  return some_state(config_of('none')), some_batch()


@drawn.quick
def go(state, images, number, other):
  """Logits with other states in place of one; all the states; statistics."""
  model = models.create(config_of('none').model, 10)
  found = []

  def replace(k, x):
    found.append(jnp.where(number == k, other[k], x))
    return found[-1]

  params, stats = state
  logits, new = model.apply(
    {'params': params, 'batch_stats': stats},
    images,
    train=True,
    activation_hook=replace,
    mutable=['batch_stats'],
  )
  return logits, found, new['batch_stats']


def mixed_by_hand(one):
  """Logits and statistics where the state was mixed by NumPy, in float64."""
  state, batch = state_and_batch()
  images, layer = jnp.asarray(by_hand(batch['image'])), int(one.layer)
  nothing = [jnp.zeros((BATCH, *shape)) for shape in shapes_of()]
  logits, states, stats = go(state, images, -1, nothing)
  if layer == -1:
    return logits, stats
  own = np.asarray(states[layer], float)
  weight = np.asarray(one.weights[layer], float)
  blend = weight * own + (1 - weight) * own[np.asarray(one.partner)]
  states[layer] = jnp.asarray(blend, jnp.float32)
  logits, _, stats = go(state, images, layer, states)
  return logits, stats


def loss_by_definition(method, one, logits):
  """The loss of each paper, in float64."""
  log_probs = scipy.special.log_softmax(np.asarray(logits, float), axis=1)
  own = np.eye(10)[np.asarray(state_and_batch()[1]['label'])]
  other = own[np.asarray(one.partner)]

  def entropy(targets):
    return -np.mean(np.sum(targets * log_probs, axis=1))

  layer = int(one.layer)
  if layer == -1:
    return entropy(own)
  weight = np.asarray(one.weights[layer], float)
  if method == 'manifold_mixup':
    return weight * entropy(own) + (1 - weight) * entropy(other)
  share = np.mean(weight == 1)  # of the units that no block covers
  lam = weight.min()
  both = share * own + (1 - share) * (lam * own + (1 - lam) * other)
  return (
    share * entropy(own)
    + (1 - share) * entropy(lam * own + (1 - lam) * other)
    + entropy(both)
  )


@pytest.mark.slow
@every_draw
def test_the_loss_is_that_of_the_mixed_state(method, layer):
  key, one = draws(method)[layer]
  state, batch = state_and_batch()
  (found, (stats, metrics)), _ = compiled(method)(*state, batch, key)
  logits, expected_stats = mixed_by_hand(one)
  expected = loss_by_definition(method, one, logits)
  assert found == pytest.approx(expected, rel=1e-4)
  assert metrics['lambda'] == pytest.approx(float(one.lam[0]), rel=1e-5)
  assert (metrics['lambda'] == 1) == (layer == -1)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4),
    stats,
    expected_stats,
  )


@every_draw
def test_every_draw_gives_a_finite_gradient_and_new_statistics(method, layer):
  key, _ = draws(method)[layer]
  (params, stats), batch = state_and_batch()
  (_, (new, _)), grads = compiled(method)(params, stats, batch, key)
  for tree in grads, new:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
      assert np.any(leaf), f'{jax.tree_util.keystr(path)} is 0 everywhere'
  assert jax.tree.structure(new) == jax.tree.structure(stats)
  moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), new, stats)
  assert all(jax.tree.leaves(moved)), f'statistics that stay: {moved}'


@pytest.mark.slow
def test_a_batch_that_stays_has_the_loss_it_has_without():
  key, _ = draws('patchup_hard')[-1]
  state, batch = state_and_batch()
  (found, _), grads = compiled('patchup_hard')(*state, batch, key)
  (plain, _), expected = compiled('none')(*state, batch, key)
  assert found == plain
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    grads,
    expected,
  )


def make_context(mesh, rows):
  def postprocess(pixels):
    return pixels / 2

  return mixing.MixContext(rows, (8, 8, 1), 10, mesh, postprocess, shapes_of)


@pytest.mark.slow
def test_a_lambda_of_1_leaves_activations_and_loss_as_they_are(monkeypatch):
  def draw_none(key, shapes):
    mix = jaxmix.draw_manifold_mixup(key, shapes[2][0], layers=(2,))
    one = jnp.float32(1)
    return jaxmix.HiddenMix(
      jnp.ones_like(mix.lam), mix.partner, mix.layer, {2: one}
    )

  method = mixing.Method(draw_none, schema={})
  monkeypatch.setitem(mixing.METHODS, 'manifold_mixup', method)
  options = ConfigDict({'name': 'manifold_mixup', 'layers': (2,)})
  mix = mixing.make(options, make_context(one_device(), BATCH))
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.integers(0, 256, (4, 8, 8, 1)), jnp.uint8)
  labels = jnp.array([0, 3, 3, 9])

  @jax.jit
  def run(states, logits):
    mixed = mix(
      jax.random.key(0), jnp.arange(1), images, labels, lambda images: logits
    )
    assert mixed.activation_hook is not None and mixed.loss_factor is None
    loss, *_ = losses.score(logits, labels, mixed.targets, label_smoothing=0.0)
    plain = -jax.nn.log_softmax(logits)[jnp.arange(4), labels]
    return mixed.images, mixed.activation_hook(2, states), loss, plain

  states = jnp.asarray(rng.normal(size=(4, 8, 8, 16)), jnp.bfloat16)
  logits = jnp.asarray(rng.normal(size=(4, 10)), jnp.float32)
  finished, same, loss, plain = run(states, logits)
  np.testing.assert_array_equal(finished, np.asarray(images) / 2)
  np.testing.assert_array_equal(same, states)
  np.testing.assert_array_equal(loss, plain)


@pytest.mark.parametrize(
  'method, field, values',
  [
    ('manifold_mixup', 'layers', [(0, 9)]),
    ('manifold_mixup', 'alpha', [0.0]),
    ('patchup_hard', 'layers', [(0, 5)]),
    ('patchup_hard', 'block_size', [4, 9]),
  ],
)
def test_a_mistake_is_told_by_its_field(method, field, values):
  for value in values:
    config = make_config(f'method={method}', **{f'mix.{field}': value})
    with pytest.raises(ValueError, match=rf'^config\.mix\.{field}=') as error:
      task.make_loss(config, one_device())
    assert str(value) in str(error.value)


@pytest.mark.devices
@every_method
def test_a_step_moves_sums_but_no_states(method):
  config, mesh = on_virtual_devices(config_of(method)), make_mesh()
  state = jax.device_put(some_state(config), replicated(mesh))
  batch = jax.device_put(some_batch(), batch_sharded(mesh))
  key = jax.device_put(jax.random.key(0), replicated(mesh))
  gradient = jax.grad(task.make_loss(config, mesh), has_aux=True)
  assert collectives(gradient, *state, batch, key) == {'all-reduce'}


@pytest.mark.devices
@every_method
def test_each_virtual_device_is_mixed_with_one_draw(method):
  mesh = make_mesh()
  context = make_context(mesh, 4)._replace(virtual_devices=8)
  mix = mixing.make(config_of(method).mix, context)
  layers = config_of(method).mix.layers

  @drawn.quick
  def run(key, images, labels, states):
    mixed = mix(key, jnp.arange(8), images, labels, lambda images: images)
    assert mixed.activation_hook is not None
    return mixed.targets, [
      mixed.activation_hook(k, x) for k, x in zip(layers, states, strict=True)
    ]

  apart = drawn.quick(
    lambda key, states: [
      jaxmix.apply_hidden(draw(method, key, 4), k, x)
      for k, x in zip(layers, states, strict=True)
    ]
  )
  alone = drawn.quick(lambda key: draw(method, key, 4))
  rng = np.random.default_rng(0)
  images, labels = np.zeros((32, 8, 8, 1), np.uint8), np.arange(32) % 10
  states = [
    rng.normal(size=(32, *shapes_of()[k])).astype(np.float32) for k in layers
  ]
  placed = jax.device_put((images, labels, states), batch_sharded(mesh))
  seen = set()
  for seed in range(8):
    key = jax.random.key(seed)
    one = alone(key)
    seen.add(int(one.layer))
    (lam, partner), found = run(key, *placed)
    for i in range(0, 32, 4):
      part = slice(i, i + 4)
      np.testing.assert_array_equal(lam[part], one.lam)
      np.testing.assert_array_equal(partner[part], one.partner)
      expected = apart(key, [x[part] for x in states])
      for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a[part], b, rtol=1e-6, atol=1e-6)
  assert len(seen) > 1
