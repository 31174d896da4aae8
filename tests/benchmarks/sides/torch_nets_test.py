import dataclasses

import jax
import numpy as np
import pytest

from benchmarks import train_step
from benchmarks.sides import step_ours, workload
from benchmarks.sides.workload import Workload

pytestmark = pytest.mark.extract
SMALL = {
  'preact': {'name': 'preact_resnet18', 'width': 4, 'stem_stride': 1},
  'wide': {
    'name': 'wide_resnet',
    'depth': 16,
    'width': 1,
    'stem_stride': 1,
  },
  'resnet': {'name': 'resnet50', 'width': 2},
}


def make(model, path, side=32):
  file = path / 'weights.npz'
  work = Workload(model, 10, side, 8, 64, 4, 2, 1, str(file))
  workload.write_weights(file, step_ours.weight_shapes(work))
  return work


@pytest.mark.parametrize(
  'model, classes, expected',
  [
    (workload.PREACT, 100, 11_218_340),
    (workload.WIDE, 100, 36_536_884),
    (workload.RESNET, 1000, 25_557_032),
  ],
)
def test_numbers_of_parameters_match_the_literature(model, classes, expected):
  torch_nets = pytest.importorskip('benchmarks.sides.torch_nets')
  net = torch_nets.create(model, classes)
  assert sum(x.numel() for x in net.parameters()) == expected


@pytest.mark.parametrize('name', SMALL)
def test_the_same_weights_give_the_same_loss_and_gradients(name, tmp_path):
  torch = pytest.importorskip('torch')
  from benchmarks.sides import step_torch, torch_nets

  work = make(SMALL[name], tmp_path)
  facts = {
    'jaxmix': step_ours.check(work),
    'torch': step_torch.check(work, 'cpu'),
  }
  train_step.compare(facts)  # raises

  model, shapes = step_ours.create(work, 'float32')
  params, stats = step_ours._start(work, shapes)
  batch = work.first_batch()

  def loss(params):
    variables = {'params': params, 'batch_stats': stats}
    return step_ours.soft_loss(model, variables, *batch)

  grads = jax.jit(jax.grad(loss))(params)
  net = torch_nets.create(work.model, work.classes)
  torch_nets.load(net, work.read_weights())
  images, labels = map(torch.from_numpy, batch)
  # In float64, which oneDNN does not compute: in float32, torch 2.13 returns
  # wrong gradients of strided 1x1 kernels with few channels on some CPUs (norm
  # 5.86 instead of 0.13).
  logits = net.double().train()(images.double().permute(0, 3, 1, 2))
  exact = torch.nn.functional.cross_entropy(logits, labels.double())
  assert facts['jaxmix']['loss'] == pytest.approx(exact.item(), rel=1e-5)
  exact.backward()
  for layer, source in net.sources().items():
    ours = grads
    for part in source.split('/'):
      ours = ours[part]
    ours = np.asarray(ours.get('kernel', ours.get('scale')))
    theirs = layer.weight.grad.numpy()
    order = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[theirs.ndim]
    gap = np.linalg.norm(ours - theirs.transpose(order))
    assert gap < 1e-2 * np.linalg.norm(ours), source


def test_weights_that_do_not_fit_are_rejected(tmp_path):
  torch_nets = pytest.importorskip('benchmarks.sides.torch_nets')
  work = make(SMALL['preact'], tmp_path)
  weights = work.read_weights()
  net = torch_nets.create(work.model, work.classes)
  with pytest.raises(ValueError, match='other'):
    torch_nets.load(net, weights | {'other': np.zeros(1)})
  del weights['Dense_0/bias']
  with pytest.raises(ValueError, match=r'head\.bias'):
    torch_nets.load(net, weights)


def test_both_sides_take_steps(tmp_path):
  pytest.importorskip('torch')
  from benchmarks.sides import step_torch

  fields = dataclasses.asdict(
    make(SMALL['preact'] | {'width': 1, 'stem_stride': 2}, tmp_path)
  )
  ours, _ = step_ours.make(modes=['float32, RandomMix'], **fields)
  theirs, _ = step_torch.make(
    device='cpu', modes=['float32', 'bfloat16'], **fields
  )
  for name, call in {**ours, **theirs}.items():
    for _ in range(3):
      losses = np.asarray(
        [taken['loss'] for taken in call()] if name in ours else [call()]
      )
      assert losses.shape == (1, 2) and np.isfinite(losses).all(), name


def test_different_networks_are_rejected():
  facts = {
    'jaxmix': {'loss': 2.0, 'parameters': 5},
    'torch': {'loss': 2.001, 'parameters': 5},
  }
  with pytest.raises(ValueError, match='jaxmix'):
    train_step.compare(facts)
  facts['torch'] = {'loss': 2.0, 'parameters': 6}
  with pytest.raises(ValueError, match='jaxmix'):
    train_step.compare(facts)
