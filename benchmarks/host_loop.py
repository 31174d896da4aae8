"""Host time of the training loop, and how long the device waits for it.

  python -m benchmarks.host_loop           # prints the tables, 3 minutes
  python -m benchmarks.host_loop --save    # and writes benchmarks/results/

The benchmark runs `launch.train.loop.fit`. First it trains a network of one
layer, so that only host work remains: CPU time of the Python thread between two
dispatches, in which it draws the batches of a chunk, dispatches it, and reads
and writes the metrics of the previous one. CPU time does not count while the
thread waits for the device. Then it trains a larger network with a log record,
a checkpoint and an evaluation at every dispatch, and compares with the steps
alone. The device spends waiting whatever exceeds the time of the evaluation. If
the device is the CPU of the host, steps and evaluations sleep instead (`--nap`,
ms), so that host work takes no time from the device, as on an accelerator.
"""

import argparse
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

from benchmarks.harness import machine
from benchmarks.harness.settings import ConfigDict
from benchmarks.harness.timing import Times
from launch.mesh import expects_cpu
from launch.shell.malloc import keep_freed_memory
from launch.train import assemble
from launch.train.loop import fit

EXAMPLES, CLASSES = 50_000, 10
# What happens at every dispatch.
MODES = {
  'steps alone': {},
  'log': {'log': True},
  'log, save': {'log': True, 'save': True},
  'log, evaluate': {'log': True, 'evaluate': True},
  'log, save, evaluate': {'log': True, 'save': True, 'evaluate': True},
}


def make_task(features: int, hidden: int, tested: int, nap: float = 0.0) -> Any:
  """Returns a task that trains a perceptron.

  Args:
    features: number of inputs.
    hidden: width of the hidden layer; 0 for a network of one layer.
    tested: examples of the evaluation.
    nap: seconds that a step sleeps; an evaluation sleeps five times as long.
  """
  rng = np.random.default_rng(0)
  x = rng.standard_normal((EXAMPLES, features), dtype=np.float32)
  y = rng.integers(0, CLASSES, EXAMPLES, dtype=np.int32)
  widths = [features, *([hidden] * bool(hidden)), CLASSES]

  def sleep(value, seconds):
    """Returns the value after some seconds."""
    still = jax.lax.stop_gradient(value)
    zero = jax.pure_callback(
      lambda x: (time.sleep(seconds), np.zeros_like(x))[1], still, still
    )
    return value + zero

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
      value = sleep(-own.mean(), nap) if nap else -own.mean()
      return value, (model_state, {'accuracy': right.mean()})

    return loss

  def make_evaluators(config, mesh):
    del config, mesh
    x_test, y_test = jax.device_put((x[:tested], y[:tested]))

    @jax.jit
    def measure(params):
      right = jnp.mean(jnp.argmax(logits(params, x_test), 1) == y_test)
      return sleep(right, 5 * nap) if nap else right

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
  calls: int, steps_per_dispatch: int, batch_size: int, due: dict[str, bool]
) -> Any:
  """Returns the config of a run with that many dispatches."""
  steps = calls * steps_per_dispatch
  once = batch_size / EXAMPLES  # epochs per step
  return ConfigDict(
    {
      'task': 'benchmarks.host_loop',
      'seed': 0,
      'epochs': steps * once,
      'batch_size': batch_size,
      'virtual_devices': 1,
      'device_count_invariant': False,
      'steps_per_dispatch': steps_per_dispatch,
      'log_every': 1 if due.get('log') else 10 * steps_per_dispatch,
      'eval_every': once * due.get('evaluate', False),
      'checkpoint_every': once * due.get('save', False),
      'keep_checkpoints': 1,
      'max_save_failures': 3,
      'max_skipped_steps': 0,
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

  The first third is left out, because it compiles.
  """
  times: list[tuple[float, float]] = []
  make_train_steps = assemble.make_train_steps

  def make_timed(*args, **kwargs):
    # As on an accelerator: one call is one dispatch.
    train_steps = make_train_steps(*args, **kwargs | {'looped': True})

    def timed(*args):
      times.append((time.perf_counter(), time.thread_time()))
      return train_steps(*args)

    return timed

  assemble.make_train_steps = make_timed
  try:
    with tempfile.TemporaryDirectory() as workdir:
      fit(task, config, pathlib.Path(workdir))
  finally:
    assemble.make_train_steps = make_train_steps
  times = times[len(times) // 3 :]
  for (wall, cpu), (wall_after, cpu_after) in zip(
    times, times[1:], strict=False
  ):
    yield wall_after - wall, cpu_after - cpu


def host_times(rounds: int) -> dict[int, list[float]]:
  """Returns CPU microseconds of the thread per step, by steps_per_dispatch."""
  task = make_task(features=32, hidden=0, tested=1000)
  spent_us: dict[int, list[float]] = {1: [], 32: []}
  for _ in range(rounds):
    for steps, values in spent_us.items():
      config = make_config(150, steps, 256, {})
      spent = [cpu / steps for _, cpu in intervals(task, config)]
      values.append(1e6 * statistics.median(spent))
  return spent_us


def stalls(
  rounds: int, calls: int, steps: int, nap: float
) -> tuple[Times, list[float]]:
  """Returns seconds per dispatch by mode, and seconds of an evaluation."""
  size = {'features': 64, 'hidden': 256} if nap else {}
  size = size or {'features': 512, 'hidden': 4096}
  task = make_task(**size, tested=5000, nap=nap)
  seconds: dict[str, list[float]] = {name: [] for name in MODES}
  alone = []
  for _ in range(rounds):
    for name, due in MODES.items():
      config = make_config(calls, steps, 256, due)
      walls = [wall for wall, _ in intervals(task, config)]
      seconds[name].append(statistics.median(walls))
    alone.append(_evaluation(task))
  return Times(seconds), alone


def _evaluation(task: Any) -> float:
  evaluate = task.make_evaluators(None, None)['test']
  params, _ = task.init(None, jax.random.key(0))
  times = []
  for _ in range(10):
    start = time.perf_counter()
    evaluate(params, {})()
    times.append(time.perf_counter() - start)
  return statistics.median(times[2:])


def report(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
  """Runs all measurements; returns the report as Markdown and as JSON."""
  about = machine.describe('jax', 'jaxlib', 'optax', 'orbax-checkpoint')
  lines = ['# The loop on the host', '', f'`{" ".join(sys.orig_argv[1:])}`', '']
  lines += [f'- {name}: {value}' for name, value in about.items()]
  lines += [f'- rounds: {options.rounds}; medians']
  host = host_times(options.rounds)
  lines += ['', '## CPU time of the Python thread, one layer', '']
  lines += [
    '| steps per dispatch | us per step | us per dispatch |',
    '|---|---|---|',
  ]
  for steps, values in host.items():
    middle = statistics.median(values)
    lines += [f'| {steps} | {middle:.1f} | {middle * steps:.0f} |']
  steps = options.steps
  nap = options.nap / 1e3 if expects_cpu() else 0.0
  times, alone = stalls(options.rounds, options.calls, steps, nap)
  step_ms = times.median_ms('steps alone') / steps
  evaluation_ms = 1e3 * statistics.median(alone)
  lines += [
    '',
    f'## Dispatches of {steps} steps with something due at each',
    '',
  ]
  lines += [f'A step sleeps for {options.nap} ms.', ''] if nap else []
  lines += [
    f'A step takes {step_ms:.1f} ms, an evaluation by itself '
    f'{evaluation_ms:.1f} ms.',
    '',
    '| due | ms per dispatch | over the steps alone | waited, in steps |',
    '|---|---|---|---|',
  ]
  for name, due in MODES.items():
    low = times.median_ms(name)
    own = evaluation_ms * due.get('evaluate', False)
    waited = (low - own) / step_ms - steps
    ratio = times.ratio(name, 'steps alone')[0]
    lines += [f'| {name} | {low:.1f} | {ratio:.3f} | {waited:+.2f} |']
  lines += [
    '',
    'Waited: time of a dispatch beyond its steps and its evaluation.',
  ]
  numbers = {
    'machine': about,
    'rounds': options.rounds,
    'host us a step': {str(k): v for k, v in host.items()},
    'nap ms': 1e3 * nap,
    'calls': times.seconds,
    'evaluation': alone,
  }
  return '\n'.join(lines) + '\n', numbers


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.host_loop')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--calls', type=int, default=18)
  parser.add_argument('--steps', type=int, default=32)
  parser.add_argument('--nap', type=float, default=10.0)
  parser.add_argument('--save', action='store_true')
  options = parser.parse_args()
  if options.rounds < 3:
    parser.error(
      f'--rounds={options.rounds} must be at least 3, to compute quartiles'
    )
  if expects_cpu():
    keep_freed_memory()
  text, numbers = report(options)
  print(text)
  if options.save:
    print(machine.save('host_loop', text, numbers))


if __name__ == '__main__':
  main()
