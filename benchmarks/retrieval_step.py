"""Steps a second of the text head's training beside torch, and peak memory.

  python -m benchmarks.retrieval_step           # prints the tables, 4 minutes
  python -m benchmarks.retrieval_step --save    # and writes benchmarks/results/

The step is that of configs/coco_m3l.py, the real one: gather, draw of a
caption, head with dropout, hardest negatives, M3L, Adam. The features are drawn
at random, of COCO's shapes, for fewer images unless --images is 82783. Torch
takes the same step from the same parameters; without torch its rows are left
out. The rows 'products' are the matrix products of a step and nothing else of
it: whoever has that library do them cannot be faster. --large takes one step at
65,536 as well (3 minutes, 12 GB).
"""

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks import machine
from benchmarks import retrieval_ours as ours
from benchmarks.timing import Times, alternate
from jaxretrieval import task
from launch.mesh import make_mesh

# Batch sizes and the steps of one timed call.
TIMED = {128: 4, 8192: 1}
MEASURED = (8192, 65_536)
TORCH = bool(importlib.util.find_spec('torch'))
METRIC_LEARNING = bool(importlib.util.find_spec('pytorch_metric_learning'))
NAME = 'jaxretrieval'
PEER = 'torch, fused Adam'


def torch_feed(arrays: dict[str, np.ndarray], run: ours.Run) -> Any:
  """The same features as torch's tensors."""
  import torch  # pyright: ignore[reportMissingImports]

  from benchmarks import retrieval_peers as peers

  torch.set_num_threads(machine.cores())
  image, text, caption = (
    torch.from_numpy(arrays[name]) for name in ('image', 'text', 'caption')
  )
  scale = float(run.state.model_state['image_scale'])
  return peers.Feed(image, text, caption.long(), scale)


def torch_calls(
  arrays: dict[str, np.ndarray], run: ours.Run, *, every: bool
) -> dict[str, Callable[[], Any]]:
  """The same steps in torch by how they are taken.

  Args:
    arrays: the features.
    run: our side, before its first step.
    every: whether with what is not the fastest of torch, too.
  """
  import torch  # pyright: ignore[reportMissingImports]

  from benchmarks import retrieval_peers as peers

  feed = torch_feed(arrays, run)
  options = run.config.optimizer
  adam = {'lr': options.lr, 'betas': (options.b1, options.b2)}

  def make(loss: Callable[..., Any], **how: Any) -> Callable[[], Any]:
    head = peers.Head(run.state.params, tuple(run.config.model.dropout))
    optimizer = torch.optim.Adam(head.parameters(), **adam, **how)
    steps = peers.make_steps(feed, head, optimizer, loss)
    blocks = run.feed.blocks(0)
    return lambda: steps(np.asarray(next(blocks)))

  calls = {PEER: make(peers.loss, fused=True)}
  if every:
    compiled = torch.compile(peers.loss, dynamic=False)
    calls['torch, fused Adam, compiled'] = make(compiled, fused=True)
    calls['torch, foreach Adam'] = make(peers.loss, foreach=True)
    calls['torch, default Adam'] = make(peers.loss)
  if METRIC_LEARNING:
    calls['torch, fused Adam, BatchHardMiner'] = make(
      peers.loss_of_metric_learning, fused=True
    )
  return calls


def time_steps(
  arrays: dict[str, np.ndarray], batch_size: int, rounds: int
) -> Times:
  """Seconds of one step, for every way to take it; they take turns."""
  small = batch_size < 1000
  count = TIMED[batch_size]
  run = ours.start(arrays, batch_size, count)
  calls = {NAME: ours.make_call(run)}
  if TORCH:
    calls |= torch_calls(arrays, run, every=small)
  if small:
    products = {'products, XLA': ours.make_products(run, batch_size)}
    if TORCH:
      from benchmarks import retrieval_peers as peers

      products['products, torch'] = peers.make_products(
        peers.Head(run.state.params, (0, 0, 0)), batch_size
      )
    for name, function in products.items():
      calls[name] = lambda f=function: [f() for _ in range(count)]
  warm_up = 2
  with tqdm(
    total=len(calls) * (rounds + warm_up), desc=f'batch {batch_size}'
  ) as progress:

    def counted(call: Callable[[], Any]) -> Callable[[], Any]:
      return lambda: (call(), progress.update())

    times = alternate(
      {name: counted(call) for name, call in calls.items()},
      rounds=rounds,
      warm_up=warm_up,
    )
  return Times({n: [s / count for s in x] for n, x in times.seconds.items()})


def differences(arrays: dict[str, np.ndarray]) -> dict[str, float]:
  """How far first loss and gradients are apart, without dropout; relative.

  Raises:
    ValueError: so far that the two sides do not do the same.
  """
  from benchmarks import retrieval_peers as peers

  run = ours.start(arrays, 128)
  run.config.model.dropout = (0.0, 0.0, 0.0)
  loss = task.make_batch_loss(run.config, ours.IMAGE_DIM, make_mesh())
  rows = np.asarray(next(run.feed.blocks(0)))[0]
  # A cdf of ones: the first caption of each image.
  batch = {name: jnp.asarray(array[rows]) for name, array in arrays.items()}
  batch['cdf'] = jnp.ones_like(batch['cdf'])
  (value, _), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(
    run.state.params, run.state.model_state, batch, run.key
  )
  head = peers.Head(run.state.params, (0.0, 0.0, 0.0))
  feed = torch_feed(arrays, run)
  other = peers.loss(head, *peers.batch(feed, rows, slot=0))
  other.backward()
  found = {'loss': abs(other.item() / float(value) - 1)}
  for i, block in enumerate(head.blocks):
    theirs: Any = block.weight.grad
    own = np.asarray(grads[f'block{i + 1}']['kernel'])
    gap = np.linalg.norm(own - theirs.numpy().T) / np.linalg.norm(own)
    found[f'gradient of block{i + 1}'] = float(gap)
  if not (found['loss'] < 1e-4 and max(found.values()) < 1e-2):
    raise ValueError(f'jaxretrieval and torch do not do the same: {found}')
  return found


def print_peak(side: str, images: int, batch_size: int) -> None:
  """Prints by how many MB this process grows, at most, in its first step."""
  arrays = ours.features(images)
  run = ours.start(arrays, batch_size)
  if side == NAME:
    call = ours.make_call(run)
  else:
    call = torch_calls(arrays, run, every=False)[PEER]
  before = _memory('VmRSS')
  call()
  print(json.dumps(_memory('VmHWM') - before))


def _memory(field: str) -> float:
  """MB of this process. Not `ru_maxrss`: that begins with the parent's."""
  status = pathlib.Path('/proc/self/status').read_text()
  (line,) = (x for x in status.splitlines() if x.startswith(f'{field}:'))
  return int(line.split()[1]) * 1024 / 1e6


def measure_peak(side: str, images: int, batch_size: int) -> float:
  """What `print_peak` prints in a process of its own."""
  command = [sys.executable, '-m', 'benchmarks.retrieval_step']
  command += ['--images', str(images), '--peak', side, str(batch_size)]
  done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
  return json.loads(done.stdout)


def report(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
  """Measures everything: a Markdown text, and the numbers for a program."""
  packages = ('jax', 'jaxlib', 'flax', 'optax', 'torch')
  about = machine.describe(*packages, 'pytorch-metric-learning')
  numbers: dict[str, Any] = {'machine': about, 'rounds': options.rounds}
  numbers['images'] = options.images
  lines = ['# Training step of retrieval', '']
  lines += [f'`{" ".join(sys.orig_argv[1:])}`', '']
  lines += [f'- {name}: {value}' for name, value in about.items()]
  for name, found in (
    ('torch', TORCH),
    ('pytorch-metric-learning', METRIC_LEARNING),
  ):
    lines += [] if found else [f'- {name}: not installed']
  lines += [
    f'- {options.images} images, 5 captions each, drawn at random',
    f'- rounds: {options.rounds}; medians, ratios as median (quartiles)',
  ]
  arrays = ours.features(options.images)
  if TORCH:
    found = numbers['differences'] = differences(arrays)
    cells = ', '.join(f'{name} {gap:.0e}' for name, gap in found.items())
    lines += [f'- first step of torch, relative difference: {cells}']
  for batch_size in TIMED:
    rounds = (
      options.rounds if batch_size < 1000 else max(3, options.rounds // 4)
    )
    times = time_steps(arrays, batch_size, rounds)
    numbers[f'batch {batch_size}'] = times.seconds
    lines += ['', f'## Batch {batch_size}, {rounds} rounds', '']
    lines += [f'| | ms a step | steps/s | time over {NAME} |']
    lines += ['|---|---|---|---|']
    for name in times.seconds:
      low = times.median_ms(name)
      ratio = '' if name == NAME else _ratio(times, name, NAME)
      lines += [f'| {name} | {low:.1f} | {1e3 / low:.2f} | {ratio} |']
  del arrays
  numbers['memory'], more = report_memory(options)
  return '\n'.join(lines + more) + '\n', numbers


def report_memory(
  options: argparse.Namespace,
) -> tuple[dict[str, Any], list[str]]:
  """Peak memory by XLA's plan and as the system saw it."""
  numbers: dict[str, Any] = {}
  lines = ['', '## Peak memory, MB', '']
  lines += [
    'Plan: what XLA lays out for one step on the whole of COCO. Grown: by what '
    'the process',
    'grows in its first step, compiling included.',
    '',
    '| batch | plan: features, state | plan: temporaries | B x B named '
    f'| {NAME}, grown | torch, grown | one B x B |',
    '|---|---|---|---|---|---|---|',
  ]
  for batch_size in MEASURED:
    plan = ours.compiled_memory(batch_size)
    row = {**plan, 'one matrix': 4e-6 * batch_size**2}
    grown = {NAME: '–', 'torch': '–'}
    for side in [NAME, *(['torch'] if TORCH else [])]:
      if batch_size > 10_000 and (side == 'torch' or not options.large):
        continue
      print(f'peak of {side}, {batch_size} ...', file=sys.stderr, flush=True)
      row[f'{side}, grown'] = measure_peak(side, options.images, batch_size)
      grown[side] = f'{row[f"{side}, grown"]:.0f}'
    numbers[str(batch_size)] = row
    cells = [batch_size, *(f'{plan[name]:.0f}' for name in plan)]
    cells += [grown[NAME], grown['torch'], f'{row["one matrix"]:.0f}']
    lines += [f'| {" | ".join(map(str, cells))} |']
  return numbers, lines


def _ratio(times: Times, name: str, other: str) -> str:
  middle, low, high = times.ratio(name, other)
  return f'{middle:.2f} ({low:.2f}–{high:.2f})'


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.retrieval_step')
  parser.add_argument('--rounds', type=int, default=15)
  parser.add_argument('--images', type=int, default=20_000)
  parser.add_argument('--large', action='store_true')
  parser.add_argument('--save', action='store_true')
  parser.add_argument('--peak', nargs=2, help=argparse.SUPPRESS)
  options = parser.parse_args()
  if options.rounds < 3:
    parser.error('--rounds must be 3 or more: quartiles are reported')
  if options.peak:
    side, batch_size = options.peak
    print_peak(side, options.images, int(batch_size))
    return
  text, numbers = report(options)
  print(text)
  if options.save:
    print(machine.save('retrieval_step', text, numbers))


if __name__ == '__main__':
  main()
