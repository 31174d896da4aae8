"""Time of each mixing mode, compared with a copy and with other libraries.

  python -m benchmarks.mix_ops            # prints the tables
  python -m benchmarks.mix_ops --save     # and writes benchmarks/results/

A mode includes everything: the draw, the images, the labels. The copy reads and
writes the batch once, a lower bound for mixing (which reads two batches).
Libraries that are not installed are left out. timm and torchvision may be
installed in another environment: --torch_python=ENV/bin/python.
"""

import argparse
import subprocess
import sys
from typing import Any

import jax

from benchmarks.harness import control, machine
from benchmarks.harness.rounds import Result, Side, alternate

# Image shapes, and batches per timed call.
SHAPES = {(256, 32, 32, 3): 20, (64, 224, 224, 3): 3}
GPU_SHAPES = {(256, 32, 32, 3): 2000, (256, 224, 224, 3): 200}
MASKS = {32: 100, 64: 100, 224: 40}
MODES = ('mixup', 'cutmix', 'resizemix', 'fmix', 'random_mix')
PEERS = {
  'torch': 'benchmarks.sides.mix_peers:make_torch',
  'timm': 'benchmarks.sides.mix_peers:make_timm',
  'torchvision': 'benchmarks.sides.mix_peers:make_torchvision',
}


def find_peers(python: str) -> dict[str, str]:
  """Returns the libraries that an interpreter can import, with versions."""
  versions = {}
  for name in PEERS:
    code = f'import {name}; print({name}.__version__)'
    done = subprocess.run(
      [python, '-c', code], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
      versions[name] = done.stdout.strip()
  return versions


def time_modes(
  shape: tuple[int, ...], repeats: int, peers: dict[str, str], rounds: int
) -> Result:
  """Times every mode, the copy and the other libraries.

  Args:
    shape: shape of the images.
    repeats: batches per call.
    peers: the interpreter of each library.
    rounds: how often each is timed.
  """
  gpu = jax.default_backend() == 'gpu'
  options = {'shape': list(shape), 'repeats': repeats}
  sides = {'jaxmix': Side('benchmarks.sides.mix_ours:make', options)}
  options = options | {'device': 'cuda' if gpu else 'cpu'}
  for name, python in peers.items():
    sides[name] = Side(PEERS[name], options, python)
  sides |= control.sides('bfloat16' if gpu else 'float32')
  return alternate(sides, rounds=rounds, name='x'.join(map(str, shape)))


def time_masks(size: int, repeats: int, rounds: int) -> Result:
  """Times one FMix mask: ours, and numpy's and scipy's on the host."""
  options = {'size': size, 'repeats': repeats}
  sides = {
    'jaxmix': Side('benchmarks.sides.mix_ours:make_masks', options),
    'host': Side('benchmarks.sides.masks:make', options),
    **control.sides(),
  }
  return alternate(sides, rounds=rounds, name=f'mask {size}')


def table(result: Result, repeats: int) -> list[str]:
  """Returns the table of one shape: lines of Markdown."""
  times = result.times
  lines = [
    f'- {control.summary(control.limits(result))}',
    '',
    '| | ms | over the copy | over the same mode of jaxmix |',
    '|---|---|---|---|',
  ]
  for name in times.seconds:
    side, _, mode = name.partition(', ')
    if side == 'control':
      continue
    cells = [name, f'{times.median_ms(name) / repeats:.3f}', '', '']
    if mode != 'copy':
      cells[2] = times.ratio_text(name, 'jaxmix, copy')
    own = {'both': 'random_mix'}.get(mode, mode)
    if side != 'jaxmix':
      cells[3] = times.ratio_text(name, f'jaxmix, {own}')
    lines += [f'| {" | ".join(cells)} |']
  return lines


def mask_lines(result: Result, size: int, repeats: int) -> list[str]:
  """Returns the lines of one mask size for the table of masks."""
  times, ours = result.times, 'jaxmix, mask'
  lines = []
  for name in (x for x in times.seconds if not x.startswith('control')):
    ratio = '' if name == ours else times.ratio_text(name, ours)
    took = times.median_ms(name) / repeats
    lines += [f'| {size} | {name} | {took:.3f} | {ratio} |']
  return lines


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.mix_ops')
  parser.add_argument('--rounds', type=int, default=15)
  parser.add_argument('--save', action='store_true')
  parser.add_argument(
    '--torch_python',
    default=sys.executable,
    help='interpreter with timm and torchvision (default: this one)',
  )
  options = parser.parse_args()
  if options.rounds < 3:
    parser.error(
      f'--rounds={options.rounds} must be at least 3, to compute quartiles'
    )
  about = machine.describe('jax', 'jaxlib', 'numpy', 'scipy')
  here = find_peers(sys.executable)
  there = here
  if options.torch_python != sys.executable:
    there = find_peers(options.torch_python)
  about |= there | here
  peers = {
    name: sys.executable if name in here else options.torch_python
    for name in PEERS
    if name in here or name in there
  }
  lines = machine.heading('Mixing operators', about)
  lines += [f'- {name}: not installed' for name in PEERS if name not in peers]
  lines += [
    f'- rounds: {options.rounds}; medians, ratios as median (quartiles)',
    '- timm and torchvision return soft labels as jaxmix does; torch (our '
    'code) mixes only images; timm pairs by reversing the batch, in place, '
    'torchvision by rolling it',
  ]
  numbers: dict[str, Any] = {'machine': about, 'rounds': options.rounds}
  limits = []
  shapes = GPU_SHAPES if jax.default_backend() == 'gpu' else SHAPES
  for shape, repeats in shapes.items():
    title = 'x'.join(map(str, shape))
    result = time_modes(shape, repeats, peers, options.rounds)
    limits.append(control.limits(result))
    numbers[title] = _numbers(result, repeats)
    lines += ['', f'## {title}, float32', '', *table(result, repeats)]
  lines += ['', '## One FMix mask', '', '| size | | ms | over jaxmix |']
  lines += ['|---|---|---|---|']
  for size, repeats in MASKS.items():
    result = time_masks(size, repeats, options.rounds)
    limits.append(control.limits(result))
    numbers[f'mask {size}'] = _numbers(result, repeats)
    lines += mask_lines(result, size, repeats)
  text = '\n'.join(lines) + '\n'
  control.finish('mix_ops', text, numbers, limits, save=options.save)


def _numbers(result: Result, repeats: int) -> dict[str, Any]:
  return {
    'seconds': result.times.seconds,
    'repeats': repeats,
    'facts': result.facts,
    'limits': control.limits(result),
  }


if __name__ == '__main__':
  main()
