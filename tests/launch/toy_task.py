"""A task small enough for tests: an MLP with dropout and a running mean."""

import sys
import time
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from launch.task import RandomAccess

FEATURES, CLASSES, HIDDEN, EXAMPLES = 6, 3, 16, 100


def arrays(diverge_at=0) -> dict[str, np.ndarray]:
  """The examples; the loss of step `diverge_at` (from 1) will be nan."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(EXAMPLES, FEATURES)).astype(np.float32)
  y = np.argmax(x @ rng.normal(size=(FEATURES, CLASSES)), axis=1)
  # Among the data, as a constant in the program would have it compiled again.
  diverge = np.full(EXAMPLES, diverge_at, np.int32)
  return {'x': x, 'y': y.astype(np.int32), 'diverge_at': diverge}


class Rows:
  """The same examples, read one by one."""

  def __init__(self):
    self._arrays = arrays()

  def __len__(self):
    return EXAMPLES

  def __getitem__(self, index):
    return {name: array[index] for name, array in self._arrays.items()}


def train_data(config) -> dict[str, np.ndarray] | RandomAccess:
  return arrays(config.diverge_at) if config.data.resident else Rows()


def init(config, key):
  del config
  k1, k2 = jax.random.split(key)
  params = {
    'w1': 0.3 * jax.random.normal(k1, (FEATURES, HIDDEN)),
    'w2': 0.3 * jax.random.normal(k2, (HIDDEN, CLASSES)),
  }
  return params, {'mean': jnp.zeros((FEATURES,)), 'steps': jnp.zeros((), int)}


def logits(params, mean, x, dropout=None):
  h = jax.nn.relu((x - mean) @ params['w1'])
  if dropout is not None:
    h = jnp.where(jax.random.bernoulli(dropout, 0.8, h.shape), h / 0.8, 0)
  return h @ params['w2']


def cross_entropy(logits, y):
  picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
  return -jnp.mean(picked)


def make_loss(config, mesh):
  del config, mesh

  def loss(params, model_state, batch, key):
    mean = 0.9 * model_state['mean'] + 0.1 * batch['x'].mean(0)
    out = logits(params, mean, batch['x'], key)
    value = cross_entropy(out, batch['y'])
    steps = model_state['steps'] + 1
    value = jnp.where(steps == batch['diverge_at'][0], jnp.nan, value)
    accuracy = jnp.mean(jnp.argmax(out, 1) == batch['y'])
    return value, ({'mean': mean, 'steps': steps}, {'accuracy': accuracy})

  return loss


def make_evaluators(config, mesh):
  del mesh
  data = jax.tree.map(jnp.asarray, arrays())

  @jax.jit
  def measure(params, model_state):
    out = logits(params, model_state['mean'], data['x'])
    return {
      'accuracy': jnp.mean(jnp.argmax(out, 1) == data['y']),
      'loss': cross_entropy(out, data['y']),
    }

  def evaluate(params, model_state):
    results = measure(params, model_state)

    def finish():
      time.sleep(config.slow_evaluation)
      return jax.tree.map(float, results)

    return finish

  return {'test': evaluate}


def changed_task(**functions) -> Any:
  """This task with other functions."""
  return types.SimpleNamespace(**vars(sys.modules[__name__]) | functions)
