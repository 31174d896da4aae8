import functools
import re
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import jaxmix
from configs import common, quickstart
from jaxmix.classification import augment, mixing, models, task
from jaxmix.classification.datasets import splits
from launch.mesh import batch_sharded, make_mesh, replicated
from launch.train.loop import fit
from tests.jaxmix import drawn

BATCH = 16
MODES = jaxmix.MODES
COLLECTIVE = re.compile(
  r'\b(all-gather|all-reduce|all-to-all|collective-\w+|reduce-scatter)'
  r'(?:-start)?\('
)


def make_config(arg=None, **fields):
  config = quickstart.get_config(arg)
  config.update_from_flattened_dict(fields)
  return config.lock()


def draw_options(config):
  """Those of `jaxmix.draw_random_mix`."""
  options = config.mix.to_dict()
  assert options.pop('name') == 'random_mix'
  return options


def one_device():
  return make_mesh(jax.devices()[:1])


def some_state(config):
  """Parameters and batch statistics; not from init, which is slow to compile.

  Returns:
    Those of a network in which every unit is alive.
  """
  rng = np.random.default_rng(0)

  def fill(path, like):
    values = rng.normal(size=like.shape)
    if path[-1].key == 'kernel':
      values *= np.sqrt(2 / np.prod(like.shape[:-1]))
    elif path[-1].key in ('scale', 'var'):
      values = 1 + 0.1 * np.abs(values)
    else:
      values *= 0.1
    return jnp.asarray(values, jnp.float32)

  init = functools.partial(task.init, config)
  return jax.tree_util.tree_map_with_path(
    fill, jax.eval_shape(init, jax.random.key(0))
  )


def some_batch():
  arrays = splits.load(quickstart.get_config().data, 'train')
  rows = np.random.default_rng(0).permutation(1437)[:BATCH]
  return {name: jnp.asarray(array[rows]) for name, array in arrays.items()}


@functools.partial(jax.jit, static_argnames='train')
def forward(state, images, train):
  """Logits of images that are ready."""
  model = models.create(quickstart.get_config().model, 10)
  params, stats = state
  logits, _ = model.apply(
    {'params': params, 'batch_stats': stats},
    images,
    train=train,
    mutable=['batch_stats'],
  )
  return logits


def cross_entropy(logits, targets):
  """By its definition, for dense targets."""
  log_probs = scipy.special.log_softmax(np.asarray(logits, float), axis=1)
  return -np.mean(np.sum(targets * log_probs, axis=1))


def by_hand(pixels):
  """Normalised digits."""
  return ((np.asarray(pixels) / 255 - 0.3058) / 0.3761).astype(np.float32)


# --- The loss ---


@pytest.fixture(scope='module')
def compiled():
  """The compiled gradient where each of the modes is drawn."""
  config = make_config(
    **{
      'mix.candidates': MODES,
      'mix.weights': (1.0,) * len(MODES),
      'augment.flip': True,
      'label_smoothing': 0.1,
    }
  )
  loss = task.make_loss(config, one_device())
  state, batch = some_state(config), some_batch()
  gradient = drawn.quick(jax.value_and_grad(loss, has_aux=True))
  key = jax.random.key(0)
  return config, state, batch, gradient.lower(*state, batch, key).compile()


@pytest.fixture(scope='module')
def draws(compiled):
  """For each mode a key that draws it; and the images and labels it gives."""
  config, _, batch, _ = compiled
  options = draw_options(config)

  @drawn.quick
  def draw(key, batch):
    crop_key, mix_key = jax.random.split(key)
    crops = augment.draw_crop_flip(crop_key, BATCH, pad=1, flip=True)
    images = augment.crop_flip(crops, batch['image'])
    saliency = jaxmix.spectral_residual(images)
    images = augment.normalise(images, (0.3058,), (0.3761,))
    mix = jaxmix.draw_random_mix(
      mix_key, images.shape, saliency=saliency, **options
    )
    mixed, labels = jaxmix.random_mix(
      mix_key,
      images,
      batch['label'],
      num_classes=10,
      saliency=saliency,
      **options,
    )
    assert mix.mode is not None
    return mix.mode[0], mixed, labels

  found = {}
  for seed in range(100):
    key = jax.random.key(seed)
    mode, images, labels = draw(key, batch)
    found.setdefault(MODES[int(mode)], (key, images, labels))
  assert found.keys() == set(MODES), 'not every mode was drawn in 100 steps'
  return found


@pytest.mark.slow
def test_cutout_cuts_what_is_normalised():
  config = make_config('method=cutout', **{'augment.pad': 0})
  state, batch = some_state(config), some_batch()
  loss = drawn.quick(task.make_loss(config, one_device()))
  key = jax.random.key(0)
  found, _ = loss(*state, batch, key)
  cut_key = jax.random.fold_in(jax.random.split(key)[1], 2**31 - 1)
  images = by_hand(batch['image'])
  box = jaxmix.draw_cutout(cut_key, images.shape, length=4)
  logits = forward(state, jaxmix.fill_box(images, box), train=True)
  targets = np.eye(10)[np.asarray(batch['label'])]
  assert found == pytest.approx(cross_entropy(logits, targets), rel=1e-5)
  plain = forward(state, images, train=True)
  assert found != pytest.approx(cross_entropy(plain, targets), rel=1e-3)


def test_without_mixing_the_loss_is_plain_cross_entropy():
  config = make_config('method=none', **{'augment.pad': 0})
  state, batch = some_state(config), some_batch()
  loss = drawn.quick(task.make_loss(config, one_device()))
  found, (_, metrics) = loss(*state, batch, jax.random.key(0))
  logits = forward(state, by_hand(batch['image']), train=True)
  targets = np.eye(10)[np.asarray(batch['label'])]
  assert found == pytest.approx(cross_entropy(logits, targets), rel=1e-5)
  assert metrics['lambda'] == 1
  again, _ = loss(*state, batch, jax.random.key(1))
  assert found == again, 'something is drawn where nothing should be'


@pytest.mark.parametrize('mode', MODES)
def test_the_loss_is_that_of_the_mixed_images_and_labels(compiled, draws, mode):
  _, state, batch, gradient = compiled
  key, images, labels = draws[mode]
  (found, (_, metrics)), _ = gradient(*state, batch, key)
  targets = 0.9 * np.asarray(labels) + 0.1 / 10  # label_smoothing
  expected = cross_entropy(forward(state, images, train=True), targets)
  assert found == pytest.approx(expected, rel=1e-4)
  assert metrics.keys() == {'accuracy', 'lambda'}
  assert 0 <= metrics['accuracy'] <= 1 and 0 <= metrics['lambda'] <= 1
  assert (metrics['lambda'] == 1) == (mode == 'identity')


@pytest.mark.parametrize('mode', MODES)
def test_every_mode_gives_a_finite_gradient_and_new_statistics(
  compiled, draws, mode
):
  _, (params, stats), batch, gradient = compiled
  (_, (new, _)), grads = gradient(params, stats, batch, draws[mode][0])
  for tree in grads, new:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
      assert np.any(leaf), f'{jax.tree_util.keystr(path)} is 0 everywhere'
  assert jax.tree.structure(new) == jax.tree.structure(stats)
  moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), new, stats)
  assert all(jax.tree.leaves(moved)), f'statistics that stay: {moved}'


def test_one_device_talks_to_no_other(compiled):
  *_, gradient = compiled
  assert not COLLECTIVE.findall(gradient.as_text())


# --- Mistakes ---


@pytest.mark.parametrize(
  'field, value',
  [
    ('model.width', 0),  # by the schema
    ('mix.weights', (1.0,)),  # by the library
    ('data.train_examples', 1438),  # by the data set
  ],
)
def test_a_value_that_is_not_allowed_is_named_before_any_step(
  tmp_path, field, value
):
  def never(config, key):
    raise AssertionError('the value was accepted')

  checked: Any = types.SimpleNamespace(**vars(task) | {'init': never})
  with pytest.raises(ValueError, match=rf'^config\.{field}='):
    fit(checked, make_config(**{field: value}), tmp_path)
  assert not list(tmp_path.iterdir()), 'a refused run left files behind'


@pytest.mark.parametrize('method', common.METHODS)
def test_a_batch_of_one_example_is_not_mixed(method):
  config = make_config(f'method={method}', batch_size=1)
  if method in ('none', 'cutout'):
    task.make_loss(config, one_device())
    return
  with pytest.raises(ValueError, match='config.batch_size=1 '):
    task.make_loss(config, one_device())


# --- Evaluation ---


def test_evaluation_is_on_the_plain_test_images():
  config = make_config(**{'evals.clean.batch_size': 100})
  params, stats = some_state(config)
  evaluators = task.make_evaluators(config, one_device())
  assert evaluators.keys() == {'clean'}
  found = evaluators['clean'](params, stats)()
  test = splits.load(config.data, 'test')
  logits = forward((params, stats), by_hand(test['image']), train=False)
  right = np.argmax(np.asarray(logits), axis=1) == test['label']
  assert found['top1'] == pytest.approx(right.mean(), abs=1.5 / 360)
  targets = np.eye(10)[test['label']]
  assert found['loss'] == pytest.approx(cross_entropy(logits, targets), 1e-4)


# --- Eight devices ---


VIRTUAL_DEVICES = 8


def on_virtual_devices(config):
  """The same, of a virtual device for each of eight devices."""
  config = config.copy_and_resolve_references()
  config.virtual_devices = VIRTUAL_DEVICES
  return config.lock()


def halve(images):
  return images / 2


def make_mix(config, mesh):
  """Returns `(key, images) -> Mixed` of a method that uses nothing else."""
  context = mixing.MixContext(
    2, (8, 8, 1), 10, mesh, halve, virtual_devices=VIRTUAL_DEVICES
  )
  mix: Any = mixing.make(config.mix, context)
  return lambda key, images: mix(
    key, jnp.arange(VIRTUAL_DEVICES), images, None, None
  )


def collectives(function, *arguments):
  compiled = jax.jit(function).lower(*arguments).compile()
  return set(COLLECTIVE.findall(compiled.as_text() or ''))


@pytest.mark.devices
def test_mixing_moves_nothing_between_devices():
  config, mesh = make_config(), make_mesh()
  images = jax.ShapeDtypeStruct(
    (BATCH, 8, 8, 1), jnp.uint8, sharding=batch_sharded(mesh)
  )
  key = jax.device_put(jax.random.key(0), replicated(mesh))
  assert collectives(make_mix(config, mesh), key, images) == set()

  # The same without the shard_map: what this test is there to notice.
  def naive(key, images):
    options = draw_options(config)
    return jaxmix.apply(
      jaxmix.draw_random_mix(key, images.shape, **options), images
    )

  assert collectives(naive, key, images), 'this test notices nothing'


@pytest.mark.devices
def test_a_step_moves_sums_but_no_pixels():
  config, mesh = on_virtual_devices(make_config()), make_mesh()
  state = jax.device_put(some_state(config), replicated(mesh))
  batch = jax.device_put(some_batch(), batch_sharded(mesh))
  key = jax.device_put(jax.random.key(0), replicated(mesh))
  gradient = jax.grad(task.make_loss(config, mesh), has_aux=True)
  assert collectives(gradient, *state, batch, key) == {'all-reduce'}


@pytest.mark.devices
def test_each_virtual_device_is_mixed_with_one_draw():
  config, mesh = make_config(), make_mesh()
  mix_all = jax.jit(make_mix(config, mesh))
  draw = jax.jit(
    lambda key: jaxmix.draw_random_mix(
      key, (4, 8, 8, 1), **draw_options(config)
    )
  )
  apply = jax.jit(functools.partial(jaxmix.apply, postprocess=halve))
  images = jax.random.bits(jax.random.key(1), (32, 8, 8, 1), jnp.uint8)
  images = jax.device_put(images, batch_sharded(mesh))
  for seed in range(5):
    mixed = mix_all(jax.random.key(seed), images)
    lam, partner = mixed.targets
    mix = draw(jax.random.key(seed))
    for i in range(0, 32, 4):
      np.testing.assert_array_equal(lam[i : i + 4], mix.lam)
      np.testing.assert_array_equal(partner[i : i + 4], mix.partner)
      expected = apply(mix, np.asarray(images)[i : i + 4])
      np.testing.assert_allclose(mixed.images[i : i + 4], expected, rtol=1e-5)
