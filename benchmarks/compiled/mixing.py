"""Mixing, compiled for TPUs and GPUs: bytes, cycles, kernels, memory.

  python -m benchmarks.compiled.mixing                # prints the tables
  python -m benchmarks.compiled.mixing --save         # and writes them
  python -m benchmarks.compiled.mixing --chips v5e    # for one chip
  python -m benchmarks.compiled.mixing --step         # and a training step

The compilers run on any machine (`chips.py`); nothing is run on a chip, and
every number is an estimate. The *ideal* is what mixing cannot do without: to
read each image and its partner, and to write the result. All modes mix uint8
images and labels, including the draw; `f32` mixes float32 images. `--step`
compiles the training step of PreAct-ResNet18 at batch 256 with and without
RandomMix, which takes minutes.
"""

import argparse
import functools
import json
import pathlib
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxmix
from benchmarks.compiled import cost
from benchmarks.compiled.chips import (
  CHIPS,
  TPUS,
  Compiled,
  compile_for,
  compile_traced,
  mesh_of,
  missing,
)

SHAPES = {'256 x 32^2': (256, 32, 32, 3), '128 x 224^2': (128, 224, 224, 3)}
MODES = ('mixup', 'cutmix', 'fmix', 'resizemix', 'random_mix')
DEFAULT_CHIPS = ('v5e', 'v6e', 'h100')
CLASSES = 100
RESULTS = pathlib.Path(__file__).parents[1] / 'results' / 'compiled'


class Row(NamedTuple):
  """One line of a table.

  Attributes:
    name: of the program.
    megabytes: that are read and written; None on a GPU.
    ratio: these bytes over the ideal.
    kilocycles: the estimate of a TPU; None on a GPU.
    kernels: of a GPU; None on a TPU.
    image_kernels: those with a result as large as the images.
    temporary: megabytes of temporary memory.
    seconds: time to compile.
  """

  name: str
  megabytes: float | None
  ratio: float | None
  kilocycles: float | None
  kernels: int | None
  image_kernels: int | None
  temporary: float
  seconds: float


def programs() -> dict[str, Callable[..., Any]]:
  """Returns the functions of (key, images, labels) that are compiled."""
  found: dict[str, Callable[..., Any]] = {
    'copy': lambda key, images, labels: (images + jnp.uint8(1), labels)
  }
  for mode in MODES:
    found[mode] = functools.partial(getattr(jaxmix, mode), num_classes=CLASSES)
  found['random_mix, per sample'] = functools.partial(
    jaxmix.random_mix, num_classes=CLASSES, granularity='sample'
  )
  found['random_mix, f32'] = functools.partial(
    jaxmix.random_mix, num_classes=CLASSES
  )
  return found


def ideal(shape: tuple[int, ...], name: str) -> int:
  """Returns the bytes of two reads and a write."""
  size = 4 if name.endswith('f32') else 1
  elements = functools.reduce(lambda x, y: x * y, shape)
  return 3 * size * elements


def compiled(chip: str, name: str, shape: tuple[int, ...]) -> Compiled:
  """Compiles one of the programs for a chip."""
  images = jnp.float32 if name.endswith('f32') else jnp.uint8
  return compile_for(
    chip,
    programs()[name],
    jax.eval_shape(lambda: jax.random.key(0)),
    jax.ShapeDtypeStruct(shape, images),
    jax.ShapeDtypeStruct(shape[:1], jnp.int32),
  )


def row(chip: str, name: str, shape: tuple[int, ...]) -> Row:
  """Returns the line of a program."""
  program = compiled(chip, name, shape)
  tpu = chip in TPUS
  pixels = ideal(shape, 'uint8') // 3
  megabytes = None if program.bytes is None else program.bytes / 1e6
  return Row(
    name,
    megabytes,
    megabytes and megabytes * 1e6 / ideal(shape, name),
    cost.cycles(program.text) / 1e3 if tpu else None,
    None if tpu else cost.kernels(program.text),
    None if tpu else cost.image_kernels(program.text, pixels),
    program.temporary / 1e6,
    program.seconds,
  )


def table(rows: list[Row], tpu: bool) -> list[str]:
  """Returns the lines of a table in Markdown."""
  if tpu:
    lines = [
      '| | MB | over the ideal | thousand cycles | temporary MB | compile s |',
      '|---|---:|---:|---:|---:|---:|',
    ]
    return lines + [
      f'| {r.name} | {r.megabytes:.1f} | {r.ratio:.1f} | {r.kilocycles:.0f} '
      f'| {r.temporary:.1f} | {r.seconds:.1f} |'
      for r in rows
    ]
  lines = [
    '| | kernels | as large as the images | temporary MB | compile s |',
    '|---|---:|---:|---:|---:|',
  ]
  return lines + [
    f'| {r.name} | {r.kernels} | {r.image_kernels} | {r.temporary:.2f} '
    f'| {r.seconds:.1f} |'
    for r in rows
  ]


def step_ratios(chip: str) -> dict[str, float]:
  """Compiles a training step with RandomMix and without.

  Returns:
    The gigabytes, the million cycles and the seconds to compile of each, and
    the ratios of the first two.
  """
  # Not at the top: the modes above need jax alone.
  from benchmarks.compiled.programs import Program, trace_step

  found: dict[str, float] = {}
  for method in ('none', 'random_mix'):
    arguments = f'data=cifar100,model=preact,method={method}'
    program = Program('table1_cifar', arguments, 256, {})
    step = compile_traced(chip, trace_step(program, mesh_of(chip)).traced)
    assert step.bytes is not None
    found[f'{method}: GB'] = step.bytes / 1e9
    found[f'{method}: million cycles'] = cost.cycles(step.text) / 1e6
    found[f'{method}: compile s'] = step.seconds
  for name in ('GB', 'million cycles'):
    mixed, plain = (found[f'{way}: {name}'] for way in ('random_mix', 'none'))
    found[f'ratio: {name}'] = mixed / plain
  return found


def main() -> int:
  """Prints the tables, and writes them with --save."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--chips', nargs='+', choices=CHIPS)
  parser.add_argument('--step', action='store_true', help='a training step')
  parser.add_argument('--save', action='store_true', help=f'write {RESULTS}')
  args = parser.parse_args()
  chips = args.chips or DEFAULT_CHIPS
  for chip in chips:
    if reason := missing(chip):
      print(f'{chip} is left out: it needs {reason}', file=sys.stderr)
      if args.chips:
        return 2
      continue
    report(chip, step=args.step and chip in TPUS, save=args.save)
  return 0


def report(chip: str, *, step: bool, save: bool) -> None:
  """Prints the tables of a chip, as they are made, and saves them."""
  versions = {
    name: metadata.version(name)
    for name in ('jax', 'jaxlib', 'libtpu', 'jax-cuda12-plugin')
    if name != ('jax-cuda12-plugin' if chip in TPUS else 'libtpu')
  }
  told = ', '.join(f'{k} {v}' for k, v in versions.items())
  lines = [
    f'# Mixing, compiled for {chip}',
    '',
    f'`python -m benchmarks.compiled.mixing --chips {chip}` with {told}. '
    'Compiled, not measured: nothing was run on a chip.',
  ]
  numbers: dict[str, Any] = {'chip': chip, 'versions': versions, 'rows': {}}
  print('\n'.join(lines))
  for title, shape in SHAPES.items():
    head = ['', f'## {title}, ideal {ideal(shape, title) / 1e6:.1f} MB', '']
    print('\n'.join(head))
    rows = []
    for name in programs():
      rows.append(row(chip, name, shape))
      tail = 1 if len(rows) > 1 else 3
      print('\n'.join(table(rows, chip in TPUS)[-tail:]), flush=True)
    lines += head + table(rows, chip in TPUS)
    numbers['rows'][title] = [r._asdict() for r in rows]
  if step:
    numbers['step'] = step_ratios(chip)
    head = ['', '## The step of PreAct-ResNet18 at batch 256, bfloat16', '']
    body = [f'- {name} {value:.4g}' for name, value in numbers['step'].items()]
    print('\n'.join(head + body))
    lines += head + body
  if save:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f'mixing_{chip}.md').write_text('\n'.join(lines) + '\n')
    (RESULTS / f'mixing_{chip}.json').write_text(json.dumps(numbers) + '\n')


if __name__ == '__main__':
  sys.exit(main())
