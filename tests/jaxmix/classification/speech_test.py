"""Training on audio: the loss, its mixing, and evaluations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from configs import table3_speech
from jaxmix.classification import audio, models, task
from jaxmix.classification.datasets import specs
from launch.config import check_config
from launch.mesh import make_mesh
from launch.train.loop import fit
from launch.workdir.metrics import final_metrics
from tests.jaxmix import drawn
from tests.jaxmix.classification import tiny_audio
from tests.jaxmix.classification.task_test import some_state

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
  monkeypatch.setitem(specs.DATASETS, 'fsdd', tiny_audio.FSDD)
  source = tiny_audio.write(tmp_path / 'published', tiny_audio.digits())

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
  params, stats = some_state(config)
  rng = np.random.default_rng(0)
  waves = (rng.normal(size=(8, 8000)) * 3000).astype(np.int16)
  return params, stats, {'audio': waves, 'label': np.arange(8, dtype=np.int32)}


@pytest.mark.slow
def test_plain_training_is_the_cross_entropy_of_the_spectrograms(make_config):
  config = make_config('none', **{'augment.shift': 0.0, 'augment.noise': 0.0})
  config.unlock()
  config.augment.speed = 0.0
  params, stats, batch = state_and_batch(config)
  loss = drawn.quick(task.make_loss(config, make_mesh(jax.devices()[:1])))
  found, _ = loss(params, stats, batch, jax.random.key(1))
  model = models.create(config.model, 10)

  @drawn.quick
  def forward(params, stats, waves):
    variables = {'params': params, 'batch_stats': stats}
    spectrograms = audio.log_mel(waves)
    return model.apply(
      variables, spectrograms, train=True, mutable=['batch_stats']
    )

  logits, _ = forward(params, stats, jnp.asarray(batch['audio']))
  wanted = -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(8), jnp.arange(8)])
  np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.slow
def test_each_key_distorts_and_mixes_differently(make_config):
  config = make_config()
  params, stats, batch = state_and_batch(config)
  loss = drawn.quick(task.make_loss(config, make_mesh(jax.devices()[:1])))
  results = [
    loss(params, stats, batch, jax.random.key(seed)) for seed in range(4)
  ]
  losses = {float(value) for value, _ in results}
  shares = {float(aux[1]['lambda']) for _, aux in results}
  assert (
    len(losses) == 4 and len(shares) == 4 and np.all(np.isfinite([*losses]))
  )
  assert all(0 <= share <= 1 for share in shares)


@pytest.mark.slow
def test_a_run_is_reproducible_and_ends_with_its_evaluation(
  make_config, tmp_path
):
  ends = []
  for name in 'one', 'other':
    fit(task, make_config(), tmp_path / name)
    ends.append(final_metrics(tmp_path / name))
  assert ends[0] == ends[1] and 0 <= ends[0]['clean/top1'] <= 1


@pytest.mark.devices
@pytest.mark.slow
def test_each_of_eight_devices_computes_its_own_spectrograms(
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
  'field, value',
  [
    ('augment.pad', 4),
    ('augment.shift', -0.1),
    ('augment.speed', 1.0),
    ('augment.noise', 1.5),
    ('evals.fgsm', {'batch_size': 20, 'epsilon': 0.1}),
    ('evals.validation', {'batch_size': 20}),
  ],
)
def test_a_field_that_audio_does_not_have_is_named(field, value):
  config = table3_speech.get_config('smoke,data=fsdd').to_dict()
  block, _, name = field.partition('.')
  config[block][name] = value
  with pytest.raises(ValueError, match=rf'^config\.{field}\b'):
    check_config(ConfigDict(config), task.SCHEMA)
