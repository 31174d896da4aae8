"""Training step of the text head, compared with torch, and its peak memory.

  python -m benchmarks.retrieval_step           # prints the tables, 4 minutes
  python -m benchmarks.retrieval_step --save    # and writes benchmarks/results/

The step is that of configs/coco_m3l.py: gather, draw of a caption, head with
dropout, hardest negatives, M3L, Adam. The features are random, with COCO's
shapes, for fewer images unless --images is 82783. Torch takes the same step
from the same parameters; without torch it is left out. The lines 'products' are
the matrix products of a step alone: a lower bound for any implementation that
uses the same library. --large also takes one step at 65,536 (3 minutes, 12 GB).
"""

import argparse
import importlib.util
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import control, machine, memory
from benchmarks.harness.rounds import Result, Side, alternate
from benchmarks.harness.settings import get_config
from benchmarks.sides import retrieval_ours as ours
from benchmarks.sides.retrieval_data import IMAGE_DIM, features
from jaxretrieval import task
from launch.mesh import make_mesh

# Steps per timed call, by batch size.
TIMED = {128: 4, 8192: 1}
GPU_TIMED = {128: 1024, 8192: 64}
MEASURED = (8192, 65_536)
TORCH = bool(importlib.util.find_spec('torch'))
METRIC_LEARNING = bool(importlib.util.find_spec('pytorch_metric_learning'))
NAME = 'jaxretrieval, step'

Make = Callable[[int, int], dict[str, Side]]


def make_sides(images: int, weights: str, run: ours.Run) -> Make:
  """Returns `(batch size, steps) -> sides`, which start from the same weights.

  Args:
    images: size of the random training set.
    weights: file with the parameters of `run`.
    run: determines the options of both sides.
  """
  options = run.config.optimizer
  theirs = {
    'device': 'cpu' if jax.default_backend() == 'cpu' else 'cuda',
    'weights': weights,
    'dropout': tuple(run.config.model.dropout),
    'adam': {'lr': options.lr, 'betas': (options.b1, options.b2)},
  }

  def sides(batch_size: int, steps: int) -> dict[str, Side]:
    size = {'images': images, 'batch_size': batch_size, 'steps': steps}
    made = {'jaxretrieval': Side('benchmarks.sides.retrieval_ours:make', size)}
    if TORCH:
      every = {'every': batch_size < 1000}
      made['torch'] = Side(
        'benchmarks.sides.retrieval_peers:make', size | theirs | every
      )
    return made

  return sides


def write_weights(path: pathlib.Path, run: ours.Run) -> None:
  """Writes the parameters that both sides start from."""
  arrays = {
    f'{block}/{name}': np.asarray(array)
    for block, fields in run.state.params.items()
    for name, array in fields.items()
  }
  arrays['image_scale'] = np.asarray(run.state.model_state['image_scale'])
  np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]


def differences(
  arrays: dict[str, np.ndarray], run: ours.Run
) -> dict[str, float]:
  """Returns relative differences of the first loss and gradients, no dropout.

  Raises:
    ValueError: the two sides do not compute the same.
  """
  import torch  # pyright: ignore[reportMissingImports]

  from benchmarks.sides import retrieval_peers as peers

  config = get_config('coco_m3l')
  config.model.dropout = (0.0, 0.0, 0.0)
  loss = task.make_batch_loss(config, IMAGE_DIM, make_mesh())
  rows = np.asarray(next(run.training.feed.chunks(0)))[0]
  # A cdf of ones: the first caption of each image.
  batch = {name: jnp.asarray(array[rows]) for name, array in arrays.items()}
  batch['cdf'] = jnp.ones_like(batch['cdf'])
  gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
  with jax.default_matmul_precision('highest'):
    (value, _), grads = gradient(
      run.state.params, run.state.model_state, batch, run.training.key
    )
  head = peers.Head(run.state.params, (0.0, 0.0, 0.0))
  scale = float(run.state.model_state['image_scale'])
  feed = peers.make_feed(arrays, scale)
  ids = torch.from_numpy(rows).long()
  other = peers.loss(head, *peers.batch(feed, ids, slot=0))
  other.backward()
  gaps = {'loss': abs(other.item() / float(value) - 1)}
  for i, block in enumerate(head.blocks):
    theirs: Any = block.weight.grad
    own = np.asarray(grads[f'block{i + 1}']['kernel'])
    gap = np.linalg.norm(own - theirs.numpy().T) / np.linalg.norm(own)
    gaps[f'gradient of block{i + 1}'] = float(gap)
  if not (gaps['loss'] < 1e-4 and max(gaps.values()) < 1e-2):
    raise ValueError(f'jaxretrieval and torch differ in the first step: {gaps}')
  return gaps


def table(result: Result, steps: int) -> list[str]:
  """Returns the table of one batch size: lines of Markdown."""
  times = result.times
  lines = [
    f'- {control.summary(control.limits(result))}',
    '',
    f'| | ms a step | steps/s | time over {NAME} |',
    '|---|---|---|---|',
  ]
  for name in times.seconds:
    if name in (control.PRODUCT, control.COPY):
      continue
    took = times.median_ms(name) / steps
    ratio = '' if name == NAME else times.ratio_text(name, NAME)
    lines += [f'| {name} | {took:.4g} | {1e3 / took:.4g} | {ratio} |']
  return lines


def report_memory(
  make: Make, *, large: bool
) -> tuple[dict[str, Any], list[str]]:
  """Measures peak memory: XLA's plan, and the growth of the process."""
  numbers: dict[str, Any] = {}
  lines = ['', '## Peak memory, MB', '']
  lines += [
    'Plan: memory that XLA allocates for one step on the whole of COCO. Grown:',
    'growth of the process in its first step, including compilation.',
    '',
    '| batch | plan: features, state | plan: temporaries | B x B named '
    '| jaxretrieval, grown | torch, grown | one B x B |',
    '|---|---|---|---|---|---|---|',
  ]
  for batch_size in MEASURED:
    plan = ours.compiled_memory(batch_size)
    row = {**plan, 'one matrix': 4e-6 * batch_size**2}
    grown = {'jaxretrieval': '–', 'torch': '–'}
    for side, how in make(batch_size, 1).items():
      if batch_size > 10_000 and (side == 'torch' or not large):
        continue
      if jax.default_backend() != 'cpu':
        continue  # the memory of the host says nothing there
      print(f'peak of {side}, {batch_size} ...', file=sys.stderr, flush=True)
      call = 'step' if side == 'jaxretrieval' else 'fused Adam'
      row[f'{side}, grown'] = memory.grown(how, call)
      grown[side] = f'{row[f"{side}, grown"]:.0f}'
    numbers[str(batch_size)] = row
    cells = [batch_size, *(f'{plan[name]:.0f}' for name in plan)]
    cells += [*grown.values(), f'{row["one matrix"]:.0f}']
    lines += [f'| {" | ".join(map(str, cells))} |']
  return numbers, lines


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.retrieval_step')
  parser.add_argument('--rounds', type=int, default=15)
  parser.add_argument('--images', type=int, default=20_000)
  parser.add_argument('--large', action='store_true')
  parser.add_argument('--save', action='store_true')
  options = parser.parse_args()
  if options.rounds < 3:
    parser.error(
      f'--rounds={options.rounds} must be at least 3, to compute quartiles'
    )
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'torch')
  about = machine.describe(*packages, 'pytorch-metric-learning')
  numbers: dict[str, Any] = {'machine': about, 'rounds': options.rounds}
  numbers['images'] = options.images
  lines = machine.heading('Training step of retrieval', about)
  for name, there in (
    ('torch', TORCH),
    ('pytorch-metric-learning', METRIC_LEARNING),
  ):
    lines += [] if there else [f'- {name}: not installed']
  lines += [
    f'- {options.images} images, 5 captions each, drawn at random',
    '- medians, ratios as median (quartiles)',
  ]
  arrays = features(options.images)
  run = ours.start(arrays, 128)
  if TORCH:
    gaps = numbers['differences'] = differences(arrays, run)
    cells = ', '.join(f'{name} {gap:.0e}' for name, gap in gaps.items())
    lines += [f'- first step of torch, relative difference: {cells}']
  del arrays
  limits = []
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'weights.npz'
    write_weights(path, run)
    make = make_sides(options.images, str(path), run)
    timed = TIMED if jax.default_backend() == 'cpu' else GPU_TIMED
    for batch_size, steps in timed.items():
      rounds = options.rounds
      if batch_size > 1000:
        rounds = max(3, rounds // 4)
      sides = make(batch_size, steps) | control.sides()
      title = f'batch {batch_size}'
      result = alternate(sides, rounds=rounds, name=title)
      limits.append(control.limits(result))
      numbers[title] = result.times.seconds
      lines += ['', f'## Batch {batch_size}, {rounds} rounds', '']
      lines += table(result, steps)
    numbers['memory'], more = report_memory(make, large=options.large)
  numbers['limits'] = limits
  text = '\n'.join(lines + more) + '\n'
  control.finish('retrieval_step', text, numbers, limits, save=options.save)


if __name__ == '__main__':
  main()
