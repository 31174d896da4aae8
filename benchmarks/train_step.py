"""Training step of the classifier, compared with torch and with the roofline.

  python -m benchmarks.train_step           # prints the tables
  python -m benchmarks.train_step --save    # and writes benchmarks/results/

The step is the trainer's: examples gathered on the device, crop, flip,
normalisation, RandomMix, network, mixed cross entropy, SGD, several steps per
dispatch. Torch takes the same step with the same network and weights. Before
anything is timed, both must have the same number of parameters and the same
loss for one given batch, in float32. On a CPU the network is PreAct-ResNet18 at
batch 64, on a GPU three networks at batch 256. Images are random: 50,000 of 32
pixels (2,048 on a CPU), or 4,096 of 224 pixels, already cropped and mirrored as
JPEG images are.
"""

import argparse
import dataclasses
import importlib.util
import pathlib
import tempfile
from typing import Any

import jax

from benchmarks.harness import control, machine
from benchmarks.harness.rounds import Result, Side, alternate
from benchmarks.sides import roofline, step_ours, workload
from benchmarks.sides.workload import CPU, GPU, LARGE, Workload

# Modes of each side. The control's products are in the dtype of the first mode.
MODES = {
  'cpu': {
    'jaxmix': ['float32, RandomMix', 'float32, no mixing']
    + ['bfloat16, RandomMix'],
    'torch': ['float32', 'bfloat16'],
  },
  'gpu': {
    'jaxmix': ['bfloat16, RandomMix', 'bfloat16, no mixing'],
    'torch': ['bfloat16, max-autotune', 'bfloat16'],
  },
}


def measure(
  title: str, work: Workload, modes: dict[str, list[str]], rounds: int
) -> Result:
  """Times the sides on a workload.

  Args:
    title: title of the progress bar.
    work: the workload; its weights are created here.
    modes: the modes of each side; torch may have none.
    rounds: how often each mode is timed.

  Raises:
    ValueError: the two sides do not train the same network.
  """
  on_cpu = jax.default_backend() == 'cpu'
  dtype = modes['jaxmix'][0].partition(', ')[0]
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / 'weights.npz'
    workload.write_weights(path, step_ours.weight_shapes(work))
    fields = dataclasses.asdict(work) | {'weights': str(path)}
    sides = {
      'jaxmix': Side(
        'benchmarks.sides.step_ours:make', {'modes': modes['jaxmix'], **fields}
      ),
      **control.sides(dtype),
    }
    if modes['torch']:
      options = {'device': 'cpu' if on_cpu else 'cuda', 'modes': modes['torch']}
      sides['torch'] = Side(
        'benchmarks.sides.step_torch:make', options | fields
      )
    return alternate(sides, rounds=rounds, name=title, check=compare)


def compare(facts: dict[str, dict[str, Any]]) -> float:
  """Returns the relative difference of the first loss; 0 without torch.

  Raises:
    ValueError: the losses or the numbers of parameters differ.
  """
  ours, theirs = facts['jaxmix'], facts.get('torch', facts['jaxmix'])
  gap = abs(ours['loss'] / theirs['loss'] - 1)
  if ours['parameters'] != theirs['parameters'] or not gap < 1e-4:
    raise ValueError(
      f'jaxmix and torch train different networks: {ours}, {theirs}'
    )
  return gap


def table(
  work: Workload, result: Result, modes: dict[str, list[str]]
) -> tuple[list[str], dict[str, Any]]:
  """Returns the report of one workload: lines of Markdown, and JSON."""
  times, limits = result.times, control.limits(result)
  ours = [
    f'jaxmix, {mode}' for mode in modes['jaxmix'] if mode.endswith('RandomMix')
  ]
  first = modes['jaxmix'][0].partition(', ')[0]
  counted = roofline.count(work, first)
  least = roofline.seconds(counted, limits)
  lines = [f'- {control.summary(limits)}', '']
  lines += [
    f'| | images/s | ms a step | {" | ".join(f"over {x}" for x in ours)} '
    '| of the serial roofline | of the floor |',
    f'|---|---|---|{"---|" * len(ours)}---|---|',
  ]
  for name in times.seconds:
    if name in (control.PRODUCT, control.COPY):
      continue
    step = times.median_ms(name) / work.steps
    cells = [name, f'{1e3 * work.batch_size / step:.0f}', f'{step:.2f}']
    cells += ['' if name == x else times.ratio_text(name, x) for x in ours]
    cells += [
      f'{1e3 * least[limit] / step:.2f}' if first in name else ''
      for limit in ('serial', 'floor')
    ]
    lines += [f'| {" | ".join(cells)} |']
  plain = f'jaxmix, {first}, no mixing'
  lines += [
    '',
    f'- RandomMix over no mixing: {times.ratio_text(ours[0], plain)}',
  ]
  lines += [
    f'- {counted["flop"] / work.batch_size / 1e9:.2f} GFLOP an image; at the '
    f'rates measured above, the serial roofline is '
    f'{1e3 * least["serial"]:.2f} ms a step, the floor '
    f'{1e3 * least["floor"]:.2f} ms ({first})'
  ]
  if work.steps * work.batch_size >= work.examples == 50_000:
    fraction = 50_000 / (work.steps * work.batch_size)
    for name in [*ours, *(f'torch, {mode}' for mode in modes['torch'])]:
      seconds = fraction * times.median_ms(name) / 1e3
      lines += [f'- an epoch of 50,000 images, {name}: {seconds:.3f} s']
  if modes['torch']:
    gap = compare(result.facts)
    lines += [f'- first loss of torch, relative difference: {gap:.0e}']
  numbers = {
    'seconds': times.seconds,
    'steps': work.steps,
    'facts': result.facts,
    'limits': limits,
    'work': counted,
    'least': least,
  }
  return lines, numbers


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.train_step')
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--save', action='store_true')
  parser.add_argument(
    '--large', action='store_true', help='also batch 256 on a CPU'
  )
  parser.add_argument(
    '--nets',
    nargs='*',
    help='workloads whose title starts like this; default: all',
  )
  parser.add_argument(
    '--torch_modes',
    nargs='*',
    help="modes of torch to time instead, such as 'bfloat16, compiled'",
  )
  options = parser.parse_args()
  if options.rounds < 3:
    parser.error(
      f'--rounds={options.rounds} must be at least 3, to compute quartiles'
    )
  about = machine.describe('jax', 'jaxlib', 'flax', 'optax', 'torch')
  backend = jax.default_backend()
  works = CPU if backend == 'cpu' else GPU
  if backend == 'cpu' and not options.large:
    works = {title: work for title, work in works.items() if title != LARGE}
  if options.nets:
    prefixes = tuple(options.nets)
    works = {x: work for x, work in works.items() if x.startswith(prefixes)}
  modes = dict(MODES[backend])
  if options.torch_modes is not None:
    modes['torch'] = options.torch_modes
  lines = machine.heading('Training step of classification', about)
  if not importlib.util.find_spec('torch'):
    modes['torch'] = []
    lines += ['- torch: not installed']
  lines += [
    f'- rounds: {options.rounds}; medians, ratios as median (quartiles)',
    '- over: time of the line divided by that of the column, above 1 if the '
    'column is faster; of: the limit divided by the time of the line',
  ]
  numbers: dict[str, Any] = {'machine': about, 'rounds': options.rounds}
  for title, work in works.items():
    result = measure(title, work, modes, options.rounds)
    more, numbers[title] = table(work, result, modes)
    lines += ['', f'## {title}', '', *more]
  limits = [numbers[title]['limits'] for title in works]
  text = '\n'.join(lines) + '\n'
  control.finish('train_step', text, numbers, limits, save=options.save)


if __name__ == '__main__':
  main()
