"""What the loop of `launch` costs the host, and whether the device waits for it.

  python -m benchmarks.host_loop           # prints the tables, 2 minutes
  python -m benchmarks.host_loop --save    # and writes benchmarks/results/

`launch.loop.fit` itself trains. First a network of one layer, so that all there
is to see is the host: CPU time of the Python thread between two dispatches, in
which it draws the batches of a call, sends the device off, reads the metrics of
the call before and writes them. It does not count while the thread waits for
the device. Then a larger network with a log row, a checkpoint and an evaluation
at every call, beside the same steps without: what is more than the evaluation
takes by itself, the device spent waiting.
"""

import argparse
import functools
import pathlib
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import machine
from benchmarks.settings import ConfigDict
from benchmarks.timing import Times
from launch import run
from launch.loop import fit
from launch.malloc import keep_freed_memory
from launch.mesh import expects_cpu

EXAMPLES, CLASSES = 50_000, 10
# What is due at every call.
MODES = {
  'steps alone': {},
  'log': {'log': True},
  'log, save': {'log': True, 'save': True},
  'log, evaluate': {'log': True, 'evaluate': True},
  'log, save, evaluate': {'log': True, 'save': True, 'evaluate': True},
}


def make_task(features: int, hidden: int, tested: int) -> Any:
  """A perceptron; `hidden` 0: a network of one layer."""
  rng = np.random.default_rng(0)
  x = rng.standard_normal((EXAMPLES, features), dtype=np.float32)
  y = rng.integers(0, CLASSES, EXAMPLES, dtype=np.int32)
  widths = [features, *([hidden] * bool(hidden)), CLASSES]

  def init(config, key):
    del config
    shapes = zip(widths, widths[1:], strict=False)
    keys = jax.random.split(key, len(widths))
    return [
      jax.random.normal(key, shape) / shape[0] ** 0.5
      for key, shape in zip(keys, shapes, strict=False)
    ], {}

  def logits(params, x):
    for w in params[:-1]:
      x = jax.nn.relu(x @ w)
    return x @ params[-1]

  def make_loss(config, mesh):
    del config, mesh

    def loss(params, model_state, batch, key):
      del key
      out = logits(params, batch['x'])
      right = jnp.argmax(out, 1) == batch['y']
      own = jnp.take_along_axis(jax.nn.log_softmax(out), batch['y'][:, None], 1)
      return -own.mean(), (model_state, {'accuracy': right.mean()})

    return loss

  def make_evaluators(config, mesh):
    del config, mesh
    x_test, y_test = jax.device_put((x[:tested], y[:tested]))
    measure = jax.jit(
      lambda params: jnp.mean(jnp.argmax(logits(params, x_test), 1) == y_test)
    )

    def evaluate(params, model_state):
      del model_state
      accuracy = measure(params)
      return lambda: {'accuracy': float(accuracy)}

    return {'test': evaluate}

  return types.SimpleNamespace(
    train_data=lambda config: {'x': x, 'y': y},
    init=init,
    make_loss=make_loss,
    make_evaluators=make_evaluators,
  )


def make_config(
  calls: int, steps_per_call: int, batch_size: int, due: dict[str, bool]
) -> Any:
  """The config of a run of so many calls."""
  steps = calls * steps_per_call
  once = batch_size / EXAMPLES  # a step, in epochs
  return ConfigDict(
    {
      'task': 'one layer',
      'seed': 0,
      'epochs': steps * once,
      'batch_size': batch_size,
      'steps_per_call': steps_per_call,
      'log_every': 1 if due.get('log') else 10 * steps_per_call,
      'eval_every': once * due.get('evaluate', False),
      'checkpoint_every': once * due.get('save', False),
      'keep_checkpoints': 1,
      'tensorboard': False,
      'optimizer': {
        'name': 'sgd',
        'lr': 0.1,
        'schedule': 'cosine',
        'warmup_epochs': 0.0,
        'weight_decay': 0.0,
        'momentum': 0.9,
        'nesterov': False,
      },
    }
  )


def intervals(task: Any, config: Any) -> Iterator[tuple[float, float]]:
  """Trains; yields wall and CPU seconds of the thread between two dispatches.

  The first third is left out: it compiles.
  """
  times: list[tuple[float, float]] = []
  make_train_steps = run.make_train_steps

  def make_timed(*args, **kwargs):
    # As on an accelerator: one call is one dispatch.
    train_steps = make_train_steps(*args, **kwargs, looped=True)

    def timed(*args):
      times.append((time.perf_counter(), time.thread_time()))
      return train_steps(*args)

    return timed

  run.make_train_steps = make_timed
  try:
    with tempfile.TemporaryDirectory() as workdir:
      fit(task, config, pathlib.Path(workdir))
  finally:
    run.make_train_steps = make_train_steps
  times = times[len(times) // 3 :]
  for (wall, cpu), (wall_after, cpu_after) in zip(times, times[1:], strict=False):
    yield wall_after - wall, cpu_after - cpu
