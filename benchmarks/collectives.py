"""Collectives of a training step, read from compiled programs.

  python -m benchmarks.collectives          # prints the tables
  python -m benchmarks.collectives --save   # and writes them

Each step is compiled for 1, 8, 64 and 512 fake CPU devices and not run
(`programs.py`). The examples per device stay the same, and each device is one
virtual device, so that it mixes its own examples. The collectives of the
program (`hlo.py`) give the bytes that a device sends on a ring, and an estimate
of weak scaling on an assumed cluster (`weak_scaling.py`).
"""

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.compiled import weak_scaling
from benchmarks.compiled.hlo import Collective
from benchmarks.compiled.programs import Compiled, Program, compiled
from benchmarks.harness import machine
from benchmarks.sides import roofline, workload

DEVICES = (1, 8, 64, 512)
IMAGES, TEXTS = 256, 128  # per device
PREACT = 'PreAct-ResNet18'
# Config and argument of each network.
NETS = {
  PREACT: ('table1_cifar', 'data=cifar100,model=preact'),
  'WideResNet-28-10': ('table1_cifar', 'data=cifar100,model=wrn'),
  'ResNet-50': ('imagenet_resnet50', ''),
}
PLAIN = 'no mixing'
PARTS = ('gradients', 'statistics', 'metrics', 'mining')

# Assumed for an H100: matrix products at 798 TFLOP/s in bfloat16, copies at
# 3 TB/s.
H100 = {'flop_per_s': 798e12, 'bytes_per_s': 3e12}
# configs/coco_m3l.py: 161,700 steps in half a minute, from memory traffic.
HEAD_SECONDS = 30 / 161_700


def programs() -> dict[str, Program]:
  """Returns the steps by their names in the tables."""
  found = {}
  for title, (config, argument) in NETS.items():
    mixings = ['random_mix']
    if title == PREACT:
      mixings += ['none']
    for mixing in mixings:
      for norm in ('global', 'ghost'):
        name = f'{title}, {norm}'
        if mixing == 'none':
          name += f', {PLAIN}'
        arguments = ','.join(filter(None, [argument, f'method={mixing}']))
        found[name] = Program(config, arguments, IMAGES, {'batch_norm': norm})
  for how in ('gather', 'ring'):
    found[f'text head, {how}'] = Program(
      'coco_m3l', None, TEXTS, {'mining.exchange': how}
    )
  return found


def parts(one: Compiled) -> dict[str, int]:
  """Returns bytes by part of the step, with all numbers in float32.

  Merged collectives have lost their names, so the parts are read from the
  partitioned program. Mining is read from the final program instead, which
  knows the length of loops: only mining has collectives in loops, and only
  mining writes them explicitly, in a shard_map.
  """
  found: dict[str, int] = dict.fromkeys(PARTS, 0)
  for x in one.partitioned:
    if not x.source.startswith('jit('):
      continue
    if 'transpose(' in x.source:
      name = 'gradients'
    else:
      name = 'statistics' if 'BatchNorm' in x.source else 'metrics'
    found[name] += x.bytes + x.half
  found['mining'] = sum(
    x.times * x.bytes for x in one.collectives if '/shard_map/' in x.source
  )
  return found


def sent(collectives: Iterable[Collective], devices: int) -> float:
  """Returns the bytes that a device sends in a step."""
  return sum(one.sent(devices) for one in collectives)


def invariant_sent(numbers: int, devices: int) -> int:
  """Returns the bytes that a device sends in a device-count-invariant step.

  Derived: `launch.train.invariant_step` sums by recursive doubling. In each of
  log2(devices) rounds a device sends everything that is summed.

  Args:
    numbers: how many float32 numbers are summed.
    devices: a power of two.

  Examples:
    >>> invariant_sent(1000, 8)
    12000
  """
  return 4 * numbers * int(math.log2(devices))


def step_seconds(name: str) -> float:
  """Returns derived seconds per step on one H100; none was available."""
  for title in NETS:
    if name.startswith(title):
      work = roofline.count(
        workload.GPU[f'{title}, batch {IMAGES}'], 'bfloat16'
      )
      return roofline.seconds(work, H100)['serial']
  return HEAD_SECONDS


def byte_lines(
  found: dict[str, dict[int, Compiled]], devices: Sequence[int]
) -> list[str]:
  """Returns the table of collectives and bytes: lines of Markdown."""
  many = [n for n in devices if n > 1]
  head = ['step', 'arrays', 'collectives', 'parameters, MB', 'gradients']
  head += ['BatchNorm', 'metrics', 'mining']
  head += [f'sent, {n} devices' for n in many]
  lines = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
  for name, by_count in found.items():
    several = [by_count[n] for n in many]
    cells = [
      name,
      _each(sum(x.arrays for x in one.partitioned) for one in several),
      _each(_count(one.collectives) for one in several),
      _mb(4 * several[0].parameters),
    ]
    split = [parts(one) for one in several]
    cells += [_each(_mb(x[key]) for x in split) for key in split[0]]
    cells += [_mb(sent(by_count[n].collectives, n)) for n in many]
    lines += [f'| {" | ".join(cells)} |']
  return lines


def _count(collectives: Sequence[Collective]) -> str:
  total = sum(one.times for one in collectives)
  return f'{total}{"+" * any(one.looped for one in collectives)}'


def _each(values: Iterable[Any]) -> str:
  """Returns one value, or all of them if they differ."""
  values = list(map(str, values))
  return values[0] if len(set(values)) == 1 else ', '.join(values)


def _mb(size: float) -> str:
  if 0 < size < 1e3:
    return f'{size:.0f} bytes'
  return f'{size / 1e6:.3g}' if size < 1e9 else f'{size / 1e6:.0f}'


def narrow_lines(
  found: dict[str, dict[int, Compiled]], devices: Sequence[int]
) -> list[str]:
  """Returns the table of bfloat16 sums and of device-count-invariant steps."""
  most = max(devices)
  many = [n for n in devices if n > 1]
  head = ['step', 'of the bytes bfloat16', 'all, as partitioned, MB']
  head += [f'invariant, {n} devices' for n in many]
  lines = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
  for name, by_count in found.items():
    one = by_count[most]
    half = sum(x.half for x in one.partitioned)
    total = sum(x.bytes for x in one.partitioned)
    cells = [name, _mb(half), _mb(total)]
    shown = ', global' not in name
    cells += [_mb(invariant_sent(one.packed, n)) if shown else '' for n in many]
    lines += [f'| {" | ".join(cells)} |']
  return lines


def estimate_lines(
  found: dict[str, dict[int, Compiled]], devices: Sequence[int]
) -> list[str]:
  """Returns the table of the estimate: lines of Markdown."""
  many = [n for n in devices if n > 1]
  head = ['step', 'ms on one device', *(f'{n} devices' for n in many)]
  lines = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
  for name, by_count in found.items():
    if name.endswith(PLAIN):
      continue
    step = step_seconds(name)
    cells = [name, f'{1e3 * step:.3g}']
    for n in many:
      bounds = weak_scaling.efficiency(step, by_count[n].collectives, n)
      cells += [f'{bounds[0]:.2f} to {bounds[1]:.2f}']
    lines += [f'| {" | ".join(cells)} |']
  return lines


def report(
  devices: Sequence[int], prefixes: tuple[str, ...]
) -> tuple[str, dict[str, Any]]:
  """Compiles everything; returns the report as Markdown and as JSON."""
  about = machine.describe('jax', 'jaxlib', 'flax', 'optax')
  chosen = {x: p for x, p in programs().items() if x.startswith(prefixes)}
  found: dict[str, dict[int, Compiled]] = {name: {} for name in chosen}
  for count in devices:
    pairs = compiled(list(chosen.values()), count)
    for name, (_, one) in zip(chosen, pairs, strict=True):
      found[name][count] = one
      print(
        f'{count} devices: {name}: {len(one.collectives)} collectives, '
        f'{one.seconds:.0f} s',
        file=sys.stderr,
        flush=True,
      )
  if any(by_count[1].collectives for by_count in found.values()):
    raise RuntimeError('a program for one device has collectives')
  links = weak_scaling.Links()
  lines = machine.heading('Collectives of a training step', about)
  lines += [
    f'- compiled for {", ".join(map(str, devices))} fake CPU devices, not run; '
    f'{IMAGES} images per device, {TEXTS} texts for the text head',
    '- one device has no collectives',
    '- arrays: arrays that the partitioner exchanges, each separately; '
    'collectives: those of the final program, after merging; +: some are in '
    'a loop whose length depends on the data, counted once',
    '- MB of float32, which a CPU uses for sums; gradients: all sums of the '
    'backward pass, including those of global BatchNorm; sent: per device, on '
    'a ring',
    '',
    *byte_lines(found, devices),
    '',
    '## In bfloat16, and device-count-invariant',
    '',
    '- invariant: MB that a device sends in a device-count-invariant step, by '
    'recursive doubling, derived',
    '',
    *narrow_lines(found, devices),
    '',
    '## Weak scaling, estimated',
    '',
    '- nothing here is measured; the step time on one device is derived: '
    f'serial roofline at {H100["flop_per_s"] / 1e12:.0f} TFLOP/s and '
    f'{H100["bytes_per_s"] / 1e12:.0f} TB/s, memory traffic for the text head',
    f'- assumed: nodes of {links.node}, {links.inside / 1e9:.0f} GB/s '
    f'per device within and {links.across / 1e9:.0f} between them, '
    f'{1e6 * links.latency:.0f} us per collective and '
    f'{1e6 * links.doubling:.0f} more for each doubling of the nodes; '
    'collectives and bytes as compiled here, in float32',
    '- efficiency: from no overlap of communication and computation to full '
    'overlap',
    '',
    *estimate_lines(found, devices),
  ]
  numbers = {
    'machine': about,
    'links': links._asdict(),
    'steps': {
      name: {count: _numbers(one, count) for count, one in by_count.items()}
      for name, by_count in found.items()
    },
  }
  return '\n'.join(lines) + '\n', numbers


def _numbers(one: Compiled, devices: int) -> dict[str, Any]:
  """Returns sums for the JSON file: a program has up to 300 collectives."""
  kinds: dict[str, list[int]] = {}
  for x in one.collectives:
    count = kinds.setdefault(x.kind, [0, 0])
    count[0] += x.times
    count[1] += x.times * x.bytes
  return {
    'parameters': one.parameters,
    'packed': one.packed,
    'arrays': sum(x.arrays for x in one.partitioned),
    'half': sum(x.half for x in one.partitioned),
    'parts': parts(one),
    'collectives and bytes': kinds,
    'looped': sum(x.looped for x in one.collectives),
    'sent': sent(one.collectives, devices),
    'seconds to compile': one.seconds,
  }


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.collectives')
  parser.add_argument('--devices', type=int, nargs='*', default=DEVICES)
  parser.add_argument(
    '--steps', nargs='*', help='steps whose name starts like this; default: all'
  )
  parser.add_argument('--save', action='store_true')
  options = parser.parse_args()
  if not {1} < {*options.devices}:
    parser.error(
      f'--devices={options.devices} must include 1 and at least one other count'
    )
  text, numbers = report(options.devices, tuple(options.steps or ('',)))
  print(text)
  if options.save:
    print(machine.save('collectives', text, numbers))


if __name__ == '__main__':
  main()
