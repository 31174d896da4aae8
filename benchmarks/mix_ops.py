"""Milliseconds of each mode beside a copy of the batch and beside torch.

  python -m benchmarks.mix_ops            # prints the table
  python -m benchmarks.mix_ops --save     # and writes benchmarks/results/

A mode is the whole of it: the draw, the images, the labels. The copy reads and
writes the batch once, which is the least that any mixing does (it reads two
batches). The peers are left out where torch or scipy is not installed.
"""

import argparse
import functools
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxmix
from benchmarks import machine, peers
from benchmarks.timing import Times, alternate

SHAPES = ((256, 32, 32, 3), (64, 224, 224, 3))
MODES = ('mixup', 'cutmix', 'resizemix', 'fmix', 'random_mix')
CLASSES = 100


def time_modes(shape: tuple[int, ...], rounds: int) -> Times:
  """Every mode, per batch and per sample, the copy and the torch peers."""
  key = jax.random.key(0)
  images = jax.random.uniform(key, shape)
  labels = jnp.arange(shape[0]) % CLASSES
  keys = iter(jax.random.split(jax.random.key(1), 100_000))
  functions: dict[str, Callable[[], Any]] = {}

  def add(name: str, function: Callable[..., Any]) -> None:
    compiled = jax.jit(function)
    functions[name] = lambda: jax.block_until_ready(
      compiled(next(keys), images, labels)
    )

  add('copy', lambda key, images, labels: jnp.copy(images))
  for mode in MODES:
    function = functools.partial(getattr(jaxmix, mode), num_classes=CLASSES)
    add(mode, function)
    add(
      f'{mode}, per sample',
      functools.partial(function, granularity='sample'),
    )
  if importlib.util.find_spec('torch'):
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(machine.cores())
    planes = torch.from_numpy(np.array(images).transpose(0, 3, 1, 2).copy())
    for mode, function in peers.torch_modes(planes).items():
      functions[f'torch {mode}'] = function
  return alternate(functions, rounds=rounds)


def time_masks(size: int, rounds: int) -> Times:
  """One FMix mask: ours, numpy's and scipy's."""
  keys = iter(jax.random.split(jax.random.key(2), 100_000))
  shape = (1, size, size, 3)
  draw = jax.jit(lambda key: jaxmix.draw_fmix(key, shape).mask)
  rng = np.random.default_rng(0)
  functions: dict[str, Callable[[], Any]] = {
    'jaxmix': lambda: jax.block_until_ready(draw(next(keys))),
    'numpy': lambda: peers.numpy_fmix_mask(rng, size, size),
  }
  if importlib.util.find_spec('scipy'):
    functions['scipy'] = lambda: peers.scipy_fmix_mask(rng, size, size)
  return alternate(functions, rounds=rounds)


def report(rounds: int) -> tuple[str, dict[str, Any]]:
  """Measures everything: a Markdown text, and the numbers for a program."""
  about = machine.describe('jax', 'jaxlib', 'numpy', 'scipy', 'torch')
  lines = ['# Mixing operators', '', f'`{" ".join(sys.orig_argv[1:])}`', '']
  lines += [f'- {name}: {value}' for name, value in about.items()]
  lines += [f'- rounds: {rounds}; medians, ratios as median (quartiles)']
  numbers: dict[str, Any] = {'machine': about, 'rounds': rounds}
  for shape in SHAPES:
    print(f'{shape} ...', file=sys.stderr, flush=True)
    times = time_modes(shape, rounds)
    title = 'x'.join(map(str, shape))
    numbers[title] = times.seconds
    lines += ['', f'## {title} float32', '']
    lines += [
      '| | ms | over the copy | torch, ms | torch over jaxmix |',
      '|---|---|---|---|---|',
    ]
    lines += [f'| copy | {times.median_ms("copy"):.2f} | | | |']
    for mode in MODES:
      for name in (mode, f'{mode}, per sample'):
        peer = f'torch {name}'
        cells = ['–', '–']
        if peer in times.seconds:
          cells = [f'{times.median_ms(peer):.2f}', _ratio(times, peer, name)]
        lines += [
          f'| {name} | {times.median_ms(name):.2f} | '
          f'{_ratio(times, name, "copy")} | {" | ".join(cells)} |'
        ]
  lines += ['', '## One FMix mask', '', '| size | | ms | over jaxmix |']
  lines += ['|---|---|---|---|']
  for size in (32, 64, 224):
    print(f'mask {size} ...', file=sys.stderr, flush=True)
    times = time_masks(size, 10 * rounds)
    numbers[f'mask {size}'] = times.seconds
    for name in times.seconds:
      ratio = '' if name == 'jaxmix' else _ratio(times, name, 'jaxmix')
      lines += [f'| {size} | {name} | {times.median_ms(name):.3f} | {ratio} |']
  return '\n'.join(lines) + '\n', numbers


def _ratio(times: Times, name: str, other: str) -> str:
  middle, low, high = times.ratio(name, other)
  return f'{middle:.2f} ({low:.2f}–{high:.2f})'


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.mix_ops')
  parser.add_argument('--rounds', type=int, default=15)
  parser.add_argument('--save', action='store_true')
  options = parser.parse_args()
  if options.rounds < 3:
    parser.error('--rounds must be 3 or more: quartiles are reported')
  text, numbers = report(options.rounds)
  print(text)
  if options.save:
    print(machine.save('mix_ops', text, numbers))


if __name__ == '__main__':
  main()
