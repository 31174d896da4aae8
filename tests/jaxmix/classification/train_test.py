"""Training runs on real images: the digits, and CIFAR-100."""

import functools
import json
import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from configs import quickstart
from jaxmix.classification import task
from launch.checkpoints.manager import Checkpoints
from launch.mesh import make_mesh
from launch.train import assemble
from launch.train.loop import fit
from launch.train.optimizer import make_optimizer, make_schedule
from launch.train.schedule import StepSchedule
from launch.train.state import abstract_state, make_init, make_keys
from launch.workdir.metrics import final_metrics, read_metrics

ROOT = pathlib.Path(__file__).resolve().parents[3]
# 135 steps of 32 digits.
FIELDS = {
  'epochs': 3.0,
  'batch_size': 32,
  'steps_per_dispatch': 4,
  'log_every': 4,
  'eval_every': 1.0,
  'checkpoint_every': 1.0,
}


def make_config(arg=None, **fields):
  config = quickstart.get_config(arg)
  config.update_from_flattened_dict(FIELDS | fields)
  return config.lock()


def start(config, workdir, fields):
  """Starts the command that people type."""
  command = [sys.executable, '-m', 'launch.main']
  command += [f'--config=configs/{config}', f'--workdir={workdir}']
  command += [f'--config.{name}={value}' for name, value in fields.items()]
  return subprocess.Popen(
    command,
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ | {'PYTHONUNBUFFERED': '1'},
  )


def ended(process):
  out, err = process.communicate(timeout=200)
  return process.returncode, out, err


def final_state(config, workdir):
  """The newest checkpoint of a run, on the host."""
  mesh = make_mesh()
  plan = StepSchedule(config.epochs, 1437, config.batch_size, 1)
  schedule = make_schedule(config.optimizer, plan)
  init = make_init(task, config, make_optimizer(config.optimizer, schedule))
  target = abstract_state(init, make_keys(0, mesh)[0], mesh)
  checkpoints = Checkpoints(workdir / 'checkpoints', 9, {})
  restored = checkpoints.restore(target)
  assert restored is not None, f'{workdir} holds no checkpoint'
  assert restored[0] == plan.total_steps, 'the end of the run is not saved'
  return jax.device_get(restored[1])


def assert_same_state(a, b):
  """Parameters, momenta and batch statistics in the same bits."""
  compare = functools.partial(np.testing.assert_array_equal, strict=True)
  assert len(jax.tree.leaves(a)) > 50
  jax.tree.map(compare, a, b)


def rows_without_time(workdir):
  return [
    {k: v for k, v in row.items() if not k.startswith('time/')}
    for row in read_metrics(workdir)
  ]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run with RandomMix from beginning to end."""
  workdir = tmp_path_factory.mktemp('whole')
  fit(task, make_config(), workdir)
  return workdir


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
  """The same without mixing."""
  workdir = tmp_path_factory.mktemp('plain')
  fit(task, make_config('method=none'), workdir)
  return workdir


def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path):
  fields = FIELDS | {'epochs': 1.5}  # 67 steps
  config, workdir = make_config(**fields), tmp_path / 'stopped'
  fit(task, config, tmp_path / 'whole')
  rng = random.Random(0)
  step = rng.randint(8, 40)
  process = start('quickstart.py', workdir, fields)
  while process.poll() is None:
    rows = read_metrics(workdir)
    if rows and rows[-1]['step'] >= step:
      break
    time.sleep(0.005)
  time.sleep(rng.random() / 20)
  process.send_signal(signal.SIGTERM)
  code, out, err = ended(process)
  assert code == 128 + signal.SIGTERM, f'{code}\n{out}\n{err}'
  assert 'stopped by SIGTERM; step ' in err
  assert final_metrics(workdir) is None, 'it had ended: stopped too late'

  code, out, err = ended(start('quickstart.py', workdir, fields))
  assert code == 0, err
  starts = json.loads((workdir / 'env.json').read_text())
  assert starts[0]['step'] == 0 and starts[1]['step'] >= step, 'it restarted'
  assert_same_state(
    final_state(config, tmp_path / 'whole'), final_state(config, workdir)
  )
  assert rows_without_time(tmp_path / 'whole') == rows_without_time(workdir)


@pytest.mark.slow
def test_streamed_images_give_the_run_of_resident_ones(plain, tmp_path):
  config = make_config('method=none', **{'data.feed': 'streamed'})
  fit(task, config, tmp_path)
  assert_same_state(final_state(config, plain), final_state(config, tmp_path))
  assert rows_without_time(plain) == rows_without_time(tmp_path)


def train_losses(workdir):
  rows = read_metrics(workdir)
  return [row['train/loss'] for row in rows if 'train/loss' in row]


def check_learning(workdir):
  losses = train_losses(workdir)
  assert len(losses) == 33 and all(map(math.isfinite, losses))
  assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.5, losses
  final = final_metrics(workdir)
  assert final is not None
  assert final['clean/top1'] > 0.8, 'chance is 0.1'
  assert final['clean/top1'] <= final['clean/top5'] <= 1
  assert final['clean/top1_low'] < final['clean/top1']
  assert final['clean/top1'] < final['clean/top1_high']


def test_random_mix_learns_digits(whole):
  check_learning(whole)
  lambdas = [
    row['train/lambda'] for row in read_metrics(whole) if 'train/lambda' in row
  ]
  assert min(lambdas) > 0 and max(lambdas) < 1, 'nothing was mixed'


def test_nothing_is_compiled_after_the_first_epoch(whole):
  # Later programs would be a warning too, and so an error in these tests.
  counts = {
    row['time/compilations']
    for row in read_metrics(whole)
    if 'train/loss' in row and row['epoch'] > 1.3
  }
  assert len(counts) == 1, counts


@pytest.mark.slow
def test_a_looped_run_compiles_nothing_after_the_first_epoch(
  tmp_path, monkeypatch
):
  make_train_steps = assemble.make_train_steps
  monkeypatch.setattr(
    assemble,
    'make_train_steps',
    lambda *a, **k: make_train_steps(*a, **k | {'looped': True}),
  )
  # Convolutions in loops are slow on a CPU: few and small ones.
  config = make_config(
    **{'data.train_examples': 160, 'data.test_examples': 100, 'model.width': 1}
  )
  fit(task, config, tmp_path)
  rows = [r for r in read_metrics(tmp_path) if 'train/loss' in r]
  counts = {r['time/compilations'] for r in rows if r['epoch'] > 1.9}
  assert rows[-1]['step'] == 15 and len(counts) == 1, counts


@pytest.mark.slow
def test_plain_training_learns_digits(plain):
  check_learning(plain)
  for row in read_metrics(plain):
    assert row.get('train/lambda', 1) == 1, 'something was mixed'


def check_smoke(config, workdir, fields):
  """Runs four steps of a config and looks at what they leave."""
  code, out, err = ended(start(config, workdir, fields))
  assert code == 0, err
  assert 'clean/top1' in out
  for name in 'config.json', 'env.json', 'metrics.jsonl', 'checkpoints':
    assert (workdir / name).exists(), f'{name} is missing'
  final = final_metrics(workdir)
  assert final is not None and math.isfinite(final['clean/loss'])
  (trained,) = [r for r in read_metrics(workdir) if 'train/loss' in r]
  assert trained['step'] == 4 and math.isfinite(trained['train/loss'])
  return json.loads((workdir / 'config.json').read_text())


@pytest.mark.slow
def test_smoke_of_the_quickstart(tmp_path):
  used = check_smoke('quickstart.py:smoke,method=none', tmp_path, {})
  assert used['mix']['candidates'] == ['identity']


@pytest.fixture
def from_the_archive(cifar100_archive, cifar100_dir):
  """Flags that read the real CIFAR-100, prepared from its own files."""
  return {'data.source': cifar100_archive, 'data.dir': cifar100_dir}


@pytest.mark.slow
def test_smoke_of_preact_on_cifar100(from_the_archive, tmp_path):
  used = check_smoke(
    'table1_cifar.py:smoke',
    tmp_path,
    from_the_archive | {'model.width': 8},
  )
  assert used['model']['width'] == 8
  assert used['mix']['weights'] == [1, 1, 1, 1]


@pytest.mark.slow
def test_smoke_of_wrn_28_10_on_cifar100(from_the_archive, tmp_path):
  used = check_smoke('cifar100_wrn.py:smoke', tmp_path, from_the_archive)
  assert (used['model']['depth'], used['model']['width']) == (28, 10)
  assert used['mix']['weights'] == [3, 1, 1, 1]


@pytest.mark.devices
@pytest.mark.slow
def test_eight_devices_train(tmp_path):
  config = make_config(epochs=0.3)
  results = fit(task, config, tmp_path)
  losses = train_losses(tmp_path)
  assert len(losses) >= 3 and all(map(math.isfinite, losses))
  assert math.isfinite(results['clean/loss'])
  (start_,) = json.loads((tmp_path / 'env.json').read_text())
  assert len(start_['devices']) == 8
