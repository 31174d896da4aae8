"""Virtual devices: a batch is the same on any number of devices."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmix.classification import models, task
from launch.mesh import batch_sharded, make_mesh, replicated
from tests.jaxmix import drawn
from tests.jaxmix.classification.task_test import (
  BATCH,
  make_config,
  some_batch,
  some_state,
)


def config_of(method, virtual_devices, **fields):
  fields |= {'virtual_devices': virtual_devices, 'batch_size': BATCH}
  return make_config(f'method={method}', **fields)


def gradient_of(config, mesh):
  loss = task.make_loss(config, mesh)
  return drawn.quick(jax.value_and_grad(loss, has_aux=True))


def steps(config, devices, seeds):
  """Returns loss, statistics, metrics and gradient of a batch for each seed."""
  mesh = make_mesh(jax.devices()[:devices])
  state = jax.device_put(some_state(config), replicated(mesh))
  batch = jax.device_put(some_batch(), batch_sharded(mesh))
  gradient = gradient_of(config, mesh)
  keys = [jax.device_put(jax.random.key(s), replicated(mesh)) for s in seeds]
  return [jax.device_get(gradient(*state, batch, key)) for key in keys]


def assert_close(found, expected, message):
  jax.tree.map(
    functools.partial(
      np.testing.assert_allclose, rtol=2e-3, atol=2e-4, err_msg=message
    ),
    found,
    expected,
  )


@pytest.mark.devices
@pytest.mark.parametrize(
  'method, virtual_devices, norm',
  [
    ('random_mix', 8, 'ghost'),
    pytest.param('random_mix', 1, 'global', marks=pytest.mark.slow),
    pytest.param('cutout', 1, 'global', marks=pytest.mark.slow),
  ],
)
def test_a_step_is_the_same_on_one_and_on_eight_devices(
  method, virtual_devices, norm
):
  config = config_of(method, virtual_devices, batch_norm=norm)
  for one, many in zip(
    steps(config, 1, range(2)), steps(config, 8, range(2)), strict=True
  ):
    (loss, (_, metrics)), _ = one
    (other, (_, others)), _ = many
    assert abs(loss - other) < 1e-5, f'{loss} on one, {other} on eight'
    np.testing.assert_allclose(metrics['lambda'], others['lambda'], 1e-6)
    assert_close(many, one, 'another gradient on eight devices')


@pytest.mark.devices
def test_a_virtual_device_over_many_devices_is_gathered_as_bytes():
  config, mesh = config_of('random_mix', 1), make_mesh()
  state = jax.device_put(some_state(config), replicated(mesh))
  batch = jax.device_put(some_batch(), batch_sharded(mesh))
  key = jax.device_put(jax.random.key(0), replicated(mesh))
  program = gradient_of(config, mesh).lower(*state, batch, key).compile()
  text = program.as_text() or ''
  gathered = re.findall(r'= (\w+)\[[\d,]*\]\S* all-gather', text)
  assert 'u8' in gathered, 'the images'
  assert set(gathered) <= {'u8', 's32', 'pred'}, 'floats are moved to be mixed'


# With a key for each virtual device, and a draw for the whole batch.
ALL = {'mix.granularity': 'sample', 'augment.cutout': 4}


@pytest.mark.slow
@pytest.mark.parametrize(
  'method, fields',
  [
    ('random_mix', ALL),
    pytest.param('random_mix', {}, marks=pytest.mark.slow),
    pytest.param('co_mixup', {'mix.group': 4}, marks=pytest.mark.slow),
    pytest.param('manifold_mixup', {}, marks=pytest.mark.slow),
  ],
)
def test_the_mean_of_the_virtual_devices_is_the_batch(method, fields):
  config = config_of(method, 4, batch_norm='ghost', **fields)
  key, rows = jax.random.key(3), BATCH // 4
  (whole,) = steps(config, 1, [3])
  gradient, batch = gradient_of(config, None), some_batch()
  parts = []
  for i in range(4):
    own = slice(i * rows, (i + 1) * rows)
    part = {name: array[own] for name, array in batch.items()}
    part['virtual_device'] = jnp.int32(i)
    parts.append(jax.device_get(gradient(*some_state(config), part, key)))
  mean = jax.tree.map(lambda *x: np.mean(x, axis=0), *parts)
  assert_close(mean, whole, 'a part draws or computes something else')
  losses = [loss for (loss, _), _ in parts]
  assert np.std(losses) > 1e-4, 'all parts are the same: nothing is tested'


def test_virtual_devices_are_mixed_apart():
  """Partners are on the same virtual device: else other labels would appear."""
  config = config_of('random_mix', 4, batch_norm='global')
  batch = some_batch() | {'label': jnp.arange(BATCH, dtype=jnp.int32) // 4}
  gradient = gradient_of(config, make_mesh(jax.devices()[:1]))
  for seed in range(3):
    key = jax.random.key(seed)
    (_, (_, metrics)), _ = gradient(*some_state(config), batch, key)
    # All labels of a virtual device are one: mixed or not, an image has that
    # label, and what is right is right wholly.
    right = float(metrics['accuracy']) * BATCH
    assert abs(right - round(right)) < 1e-4, 'a label of another virtual device'


def test_virtual_devices_are_not_normalised_by_the_whole_batch():
  with pytest.raises(ValueError, match="config.batch_norm='global'"):
    task.make_loss(config_of('none', 4), None)


@pytest.mark.slow
@pytest.mark.parametrize(
  'fields',
  [
    {'name': 'wide_resnet', 'depth': 10, 'width': 1, 'stem_stride': 2},
    pytest.param(
      {'name': 'preact_resnet18', 'width': 4, 'stem_stride': 1},
      marks=pytest.mark.slow,
    ),
    pytest.param({'name': 'resnet50', 'width': 4}, marks=pytest.mark.slow),
  ],
)
def test_ghost_batches_are_normalised_apart_and_their_statistics_averaged(
  fields,
):
  fields = fields | {'dtype': 'float32'}
  grouped, alone = (
    models.create(fields, 5, ghost_batches=3),
    models.create(fields, 5),
  )
  images = jax.random.normal(jax.random.key(0), (6, 32, 32, 3))
  init = functools.partial(grouped.init, train=False)
  shapes = jax.eval_shape(init, jax.random.key(1), images)
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda x: jnp.asarray(np.abs(rng.normal(size=x.shape)) * 0.3, x.dtype),
    shapes,
  )

  def train(model):
    return drawn.quick(
      functools.partial(model.apply, train=True, mutable=['batch_stats'])
    )

  logits, state = train(grouped)(variables, images)
  one = train(alone)
  parts = [one(variables, images[i : i + 2]) for i in (0, 2, 4)]
  expected = np.concatenate([part for part, _ in parts])
  scale = np.abs(expected).max()
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 * scale)
  means = jax.tree.map(lambda *x: np.mean(x, axis=0), *[s for _, s in parts])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max()
    ),
    state,
    means,
  )
