"""The trainer on sounds: the loss, its mixing, evaluations, and the command."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from configs import table3_speech
from jaxmix.classification import audio, models, task
from jaxmix.classification.datasets import specs
from launch.mesh import make_mesh
from launch.train.loop import fit
from launch.workdir.metrics import final_metrics
from tests.jaxmix.classification import tiny_sounds

FIELDS = {
  'batch_size': 8,
  'epochs': 0.2,
  'data.train_examples': 0,
  'data.test_examples': 0,
  'evals.clean.batch_size': 24,
  'tensorboard': False,
}


@pytest.fixture
def make_config(tmp_path, monkeypatch):
  """A config of the small FSDD, which is prepared at its first use."""
  monkeypatch.setitem(specs.DATASETS, 'fsdd', tiny_sounds.FSDD)
  source = tiny_sounds.write(tmp_path / 'published', tiny_sounds.digits())

  def make(method='random_mix', **fields):
    config = table3_speech.get_config(f'smoke,data=fsdd,method={method}')
    place = {'data.source': str(source), 'data.dir': str(tmp_path / 'sets')}
    # Compiled in a third of the time of the config's PreAct-ResNet18.
    config.model = {
      'name': 'wide_resnet',
      'depth': 10,
      'width': 1,
      'stem_stride': 2,
      'dtype': 'float32',
    }
    config.update_from_flattened_dict(FIELDS | place | fields)
    return config.lock()

  return make


def state_and_batch(config):
  params, stats = task.init(config, jax.random.key(0))
  rng = np.random.default_rng(0)
  waves = (rng.normal(size=(8, 8000)) * 3000).astype(np.int16)
  return params, stats, {'audio': waves, 'label': np.arange(8, dtype=np.int32)}


def test_plain_training_is_the_cross_entropy_of_the_pictures(make_config):
  config = make_config('none', **{'augment.shift': 0.0, 'augment.noise': 0.0})
  config.unlock()
  config.augment.speed = 0.0
  params, stats, batch = state_and_batch(config)
  loss = jax.jit(task.make_loss(config, make_mesh(jax.devices()[:1])))
  found, _ = loss(params, stats, batch, jax.random.key(1))
  model = models.create(config.model, 10)
  logits, _ = model.apply(
    {'params': params, 'batch_stats': stats},
    audio.log_mel(jnp.asarray(batch['audio'])),
    train=True,
    mutable=['batch_stats'],
  )
  wanted = -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(8), jnp.arange(8)])
  np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_sounds_are_distorted_and_mixed_anew_for_each_key(make_config):
  config = make_config()
  params, stats, batch = state_and_batch(config)
  loss = jax.jit(task.make_loss(config, make_mesh(jax.devices()[:1])))
  results = [
    loss(params, stats, batch, jax.random.key(seed)) for seed in range(4)
  ]
  losses = {float(value) for value, _ in results}
  shares = {float(aux[1]['lambda']) for _, aux in results}
  assert (
    len(losses) == 4 and len(shares) == 4 and np.all(np.isfinite([*losses]))
  )
  assert all(0 <= share <= 1 for share in shares)


def test_a_run_ends_with_its_evaluation_and_comes_out_the_same_again(
  make_config, tmp_path
):
  ends = []
  for name in 'one', 'other':
    fit(task, make_config(), tmp_path / name)
    ends.append(final_metrics(tmp_path / name))
  assert ends[0] == ends[1] and 0 <= ends[0]['clean/top1'] <= 1


@pytest.mark.devices
def test_on_eight_devices_each_makes_the_pictures_of_its_own_sounds(
  make_config,
):
  config = make_config('none', batch_size=16, virtual_devices=8)
  params, stats, batch = state_and_batch(config)
  batch = {name: np.concatenate([x, x]) for name, x in batch.items()}
  losses = []
  for devices in jax.devices()[:1], jax.devices()[:8]:
    mesh = make_mesh(devices)
    rows = NamedSharding(mesh, PartitionSpec('data'))
    loss = jax.jit(task.make_loss(config, mesh))
    given = (params, stats, jax.device_put(batch, rows), jax.random.key(1))
    program = loss.lower(*given).compile()
    losses.append(float(program(*given)[0]))
    assert 'all-gather' not in (program.as_text() or '')
    evaluate = task.make_evaluators(config, mesh)['clean']
    losses.append(evaluate(params, stats)()['loss'])
  np.testing.assert_allclose(losses[:2], losses[2:], rtol=1e-4)


@pytest.mark.parametrize(
  'fields, message',
  [
    ({'augment.pad': 4}, r'config\.augment\.pad is not an option .* like fsdd'),
    ({'augment.shift': -0.1}, r'config\.augment\.shift=-0\.1 .* seconds'),
    ({'augment.speed': 1.0}, r'config\.augment\.speed=1\.0 must be'),
    ({'augment.noise': 1.5}, r'config\.augment\.noise=1\.5 must be'),
    ({'evals.fgsm': {'batch_size': 20, 'epsilon': 0.1}}, r'fgsm .* of fsdd'),
    ({'evals.validation': {'batch_size': 20}}, r'validation .* of fsdd'),
  ],
)
def test_what_sounds_cannot_have_is_named(
  make_config, tmp_path, fields, message
):
  config = make_config()
  config.unlock()
  for name, value in fields.items():
    block, _, field = name.rpartition('.')
    config[block][field] = value
  with pytest.raises(ValueError, match=message):
    fit(task, config, tmp_path / 'run')
  assert not os.path.exists(tmp_path / 'run' / 'checkpoints')
