"""Our side of `train_step`: the training step of the classifier."""

import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness.settings import get_config
from benchmarks.sides.workload import MEAN, STD, Workload
from jaxmix.classification import models, task
from jaxmix.classification.datasets import splits
from launch.mesh import make_mesh
from launch.train.assemble import assemble, build_feed
from launch.train.feeds import Feed

MIXINGS = {'RandomMix': 'random_mix', 'no mixing': 'none'}


def make_config(work: Workload, dtype: str, mixing: str) -> Any:
  """Returns the recipe of table 1 with the network and sizes of a workload."""
  argument = f'data=cifar100,model=preact,method={MIXINGS[mixing]}'
  config = get_config('table1_cifar', argument)
  config.batch_size = work.batch_size
  config.steps_per_dispatch = work.steps_per_dispatch
  # Enough dispatches for any benchmark, so none is shorter than the others.
  config.epochs = 100_000.0 * work.steps * work.batch_size / work.examples
  config.model = {**work.model, 'dtype': dtype}
  config.augment.pad = work.pad
  config.optimizer.lr = 0.01  # labels are random: a larger rate would diverge
  return config


def make(
  *, modes: list[str], **fields: Any
) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
  """Makes a side of `train_step` with a call for each mode.

  Args:
    modes: each a dtype, 'float32' or 'bfloat16', a comma, and one of `MIXINGS`.
    **fields: fields of the `Workload`.
  """
  work = Workload(**fields)
  config = make_config(work, 'float32', 'no mixing')
  feed = build_feed(config, work.arrays(), make_mesh())  # of all modes
  facts = check(work)
  calls = {mode: _make_call(work, mode, feed) for mode in modes}
  return calls, facts


def create(work: Workload, dtype: str) -> tuple[Any, dict[str, Any]]:
  """Returns the network, and the shapes of its variables."""
  model = models.create({**work.model, 'dtype': dtype}, work.classes)
  image = jnp.zeros((1, work.side, work.side, 3))
  shapes = jax.eval_shape(
    lambda key: model.init(key, image, train=False), jax.random.key(0)
  )
  return model, dict(shapes)


def weight_shapes(work: Workload) -> dict[str, tuple[int, ...]]:
  """Returns the shapes for `workload.write_weights`."""
  _, shapes = create(work, 'float32')
  leaves = jax.tree.leaves_with_path(shapes['params'])
  return {_name(path): leaf.shape for path, leaf in leaves}


def soft_loss(model: Any, variables: Any, images: Any, labels: Any) -> Any:
  """Returns the training cross entropy with soft labels `[B, K]`."""
  logits, _ = model.apply(variables, images, train=True, mutable='batch_stats')
  return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), axis=1))


def check(work: Workload) -> dict[str, Any]:
  """Returns the facts that both sides must agree in, in full float32."""
  model, shapes = create(work, 'float32')
  params, stats = _start(work, shapes)
  variables = {'params': params, 'batch_stats': stats}
  with jax.default_matmul_precision('highest'):
    loss = jax.jit(soft_loss, static_argnums=0)(
      model, variables, *work.first_batch()
    )
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  return {'parameters': count, 'loss': float(loss), 'jax': jax.__version__}


def _make_call(work: Workload, mode: str, feed: Feed) -> Callable[[], Any]:
  """Returns a function that takes the next steps and waits for them."""
  dtype, _, mixing = mode.partition(', ')
  config, mesh = make_config(work, dtype, mixing), make_mesh()
  _, shapes = create(work, dtype)
  started = _start(work, shapes)
  shape = (work.side, work.side, 3)
  info = splits.DatasetSpec(
    'synthetic',
    num_classes=work.classes,
    image_shape=shape,
    train_examples=work.examples,
    test_examples=0,
    mean=MEAN,
    std=STD,
    is_jpeg=not work.pad,
  )
  weights: Any = types.SimpleNamespace(
    init=lambda config, key: jax.tree.map(jnp.asarray, started),
    make_loss=lambda config, mesh: task.make_batch_loss(config, info, mesh),
  )
  training = assemble(weights, config, feed, mesh)
  state = training.initial_state()
  chunks = feed.chunks(0)

  def call():
    nonlocal state
    taken = []
    for _ in range(work.calls):
      state, metrics = training.train_steps(
        state, feed.data, next(chunks), training.key
      )
      taken.append(metrics)
    jax.block_until_ready(state)
    return jax.device_get(taken)

  return call


def _start(work: Workload, shapes: dict[str, Any]) -> tuple[Any, Any]:
  """Returns the weights of the file, and initial batch statistics."""
  weights = work.read_weights()
  params = jax.tree.map_with_path(
    lambda path, _: weights[_name(path)], shapes['params']
  )
  stats = jax.tree.map_with_path(
    lambda path, leaf: np.full(
      leaf.shape, _name(path).endswith('var'), np.float32
    ),
    shapes['batch_stats'],
  )
  return params, stats


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')
