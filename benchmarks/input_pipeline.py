"""Throughput of the streamed feed, compared with torchvision and a DataLoader.

  python -m benchmarks.input_pipeline --torch_python=/path/to/python
  python -m benchmarks.input_pipeline --save

The same JPEG files, as large as ImageNet's, become batches of random resized
crops of 224 pixels, mirrored half of the time. Ours are read from an
ArrayRecord file through the feed of the trainer and sent to the device. Torch
has the files in memory and its batches stay on the host. `--torch_python` (or
JAXMIX_TORCH_PYTHON) is an interpreter with torch and torchvision; it does not
need jax.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.harness import control, machine
from benchmarks.harness.rounds import ROOT, Result, Side, alternate
from benchmarks.sides import jpeg_images

TAR = ROOT.parent / 'shared/data/flickr8k/test_images_224.tar'
KINDS = {
  'float': 'torchvision, its recipe: Pillow, ToTensor',
  'uint8': 'torchvision v2 on Pillow images, uint8',
  'tensor': 'torchvision v2 on tensors, uint8',
}
OURS = 'jaxmix'
LIBRARIES = ('simplejpeg', 'opencv-python-headless', 'pillow')


def has_torch(python: str) -> bool:
  """Returns whether an interpreter has both torch and torchvision."""
  code = 'import torch, torchvision'
  done = subprocess.run([python, '-c', code], capture_output=True, check=False)
  return done.returncode == 0


def time_pipelines(
  folder: str, options: argparse.Namespace, torch: bool
) -> Result:
  """Times all pipelines with the same number of workers."""
  fields = {
    'folder': folder,
    'workers': options.workers,
    'batch_size': options.batch_size,
    'epochs': options.epochs,
  }
  cpu = {'JAX_PLATFORMS': 'cpu'}
  sides = {OURS: Side('benchmarks.sides.input_ours:feed', fields, env=cpu)}
  for kind, name in KINDS.items() if torch else ():
    sides[name] = Side(
      'benchmarks.sides.input_torch:loader',
      fields | {'kind': kind},
      python=options.torch_python,
    )
  sides |= control.sides()
  return alternate(sides, rounds=options.rounds, name='pipelines')


def time_parts(folder: str, options: argparse.Namespace, torch: bool) -> Result:
  """Times one thread per image: decoding alone, and our complete crop."""
  sides = {
    f'decode, {library}': Side(
      'benchmarks.sides.input_ours:decoder',
      {'folder': folder, 'library': library},
    )
    for library in LIBRARIES
  }
  if torch:
    sides['decode, torchvision'] = Side(
      'benchmarks.sides.input_torch:decoder',
      {'folder': folder},
      python=options.torch_python,
    )
  crops = Side('benchmarks.sides.input_ours:crops', {'folder': folder})
  sides['jaxmix: draw, decode, crop, resize, flip'] = crops
  return alternate(sides, rounds=options.rounds, name='one thread')


def report(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
  """Runs all measurements; returns the report as Markdown and as JSON."""
  torch = has_torch(options.torch_python)
  about = machine.describe('jax', 'grain')
  with tempfile.TemporaryDirectory() as folder:
    files = jpeg_images.make(TAR, pathlib.Path(folder), options.images)
    pipelines = time_pipelines(folder, options, torch)
    parts = time_parts(folder, options, torch)
  limits = control.limits(pipelines)
  lines = machine.heading('Input pipeline', about)
  lines += [
    f'- {control.summary(limits)}',
    f'- {files}',
    f'- {options.workers} workers each, batches of {options.batch_size}, '
    f'{pipelines.facts[OURS]["images"]} images per call, {options.rounds} '
    'rounds; medians, ratios as median (quartiles)',
  ]
  if not torch:
    lines += ['- torch and torchvision: not installed, not compared']
  lines += ['', '| | images/s | time over jaxmix |', '|---|---|---|']
  for name in (OURS, *KINDS.values()):
    if name in pipelines.facts:
      facts, times = pipelines.facts[name], pipelines.times
      rate = 1e3 * facts['images'] / times.median_ms(name)
      ratio = '' if name == OURS else times.ratio_text(name, OURS)
      version = facts.get('version', '')
      lines += [f'| {name} {version} | {rate:.0f} | {ratio} |']
  lines += ['', '## One thread', '', '| | ms per image |', '|---|---|']
  for name in parts.times.seconds:
    facts = parts.facts[name]
    each = parts.times.median_ms(name) / facts['images']
    lines += [f'| {name} {facts.get("version", "")} | {each:.3f} |']
  numbers = {
    'machine': about,
    'limits': limits,
    'files': files,
    'pipelines': pipelines.times.seconds,
    'one thread': parts.times.seconds,
    'facts': pipelines.facts | parts.facts,
  }
  return '\n'.join(lines) + '\n', numbers


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.input_pipeline')
  parser.add_argument('--rounds', type=int, default=15)
  parser.add_argument('--workers', type=int, default=2)
  parser.add_argument('--batch_size', type=int, default=64)
  parser.add_argument('--images', type=int, default=256)
  parser.add_argument(
    '--epochs', type=int, default=4, help='epochs per timed call'
  )
  parser.add_argument(
    '--torch_python',
    default=os.environ.get('JAXMIX_TORCH_PYTHON') or sys.executable,
  )
  parser.add_argument('--save', action='store_true')
  options = parser.parse_args()
  if options.rounds < 3:
    parser.error(
      f'--rounds={options.rounds} must be at least 3, to compute quartiles'
    )
  if options.images % options.batch_size:
    parser.error('--images must be a multiple of --batch_size')
  text, numbers = report(options)
  limits = [numbers['limits']]
  control.finish('input_pipeline', text, numbers, limits, save=options.save)


if __name__ == '__main__':
  main()
