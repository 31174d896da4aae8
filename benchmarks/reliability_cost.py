"""Cost of checking every step for finite values, and of verified checkpoints.

  python -m benchmarks.reliability_cost           # prints the tables
  python -m benchmarks.reliability_cost --save    # writes benchmarks/results/

First the training step. `launch.train.step` checks the loss and every gradient,
and selects the new or the old state. It is compared with the same step without
a check; with that step a second time, to show the noise; and with a step that
checks only the first element of each array, to separate the cost of the
selection. The steps are those of the text head of configs/coco_m3l.py and of
PreAct-ResNet18; --large adds large batches.

Then a checkpoint of 300 MB: ours, with checksums, compared with orbax alone,
with the options of `launch.checkpoints.storage` (not compressed) and with its
defaults.
"""

import argparse
import dataclasses
import statistics
from typing import Any

from benchmarks.harness import machine
from benchmarks.harness.rounds import Result, Side, alternate
from benchmarks.harness.timing import Times
from benchmarks.sides import reliability_files, reliability_step
from benchmarks.sides.reliability_files import Files
from benchmarks.sides.reliability_step import CHECKED, FIRSTS, PLAIN
from benchmarks.sides.workload import CPU, LARGE
from launch.mesh import expects_cpu
from launch.shell.malloc import keep_freed_memory

# Size of the training set; the step time does not depend on it.
IMAGES = 10_000
# For each batch size of the text head: steps per call, and rounds per round of
# --rounds, enough for meaningful quartiles.
HEAD = {128: (4, 5), 8192: (1, 1)}
LARGE_HEAD = 8192  # on a CPU, seconds per step


def measure_steps(rounds: int, *, large: bool) -> dict[str, tuple[Result, int]]:
  """Returns the times of each case, and its steps per call."""
  module, results = 'benchmarks.sides.reliability_step', {}
  for batch_size, (steps, more) in HEAD.items():
    if batch_size < LARGE_HEAD or large:
      size = {'images': IMAGES, 'batch_size': batch_size, 'steps': steps}
      title = f'text head, batch {batch_size}'
      side = Side(f'{module}:make_head', size)
      results[title] = _alternate(title, side, rounds * more), steps
  for title, work in CPU.items():
    if title != LARGE or large:
      side = Side(f'{module}:make_net', dataclasses.asdict(work))
      results[title] = _alternate(title, side, rounds), work.steps
  return results


def _alternate(title: str, side: Side, rounds: int) -> Result:
  result = alternate(
    {'step': side},
    rounds=rounds,
    warm_up=0,  # `reliability_step` warms up
    name=title,
    check=reliability_step.compare,
  )
  seconds = result.times.seconds
  times = Times({name.partition(', ')[2]: x for name, x in seconds.items()})
  return dataclasses.replace(result, times=times)


def step_table(title: str, result: Result, steps: int) -> list[str]:
  """Returns the table of one case: lines of Markdown."""
  times = result.times
  lines = ['', f'## {title}, {len(times.seconds[PLAIN])} rounds', '']
  lines += [
    f'| the step | ms | fastest | over the step {PLAIN} |',
    '|---|---|---|---|',
  ]
  for name, seconds in times.seconds.items():
    fastest = 1e3 * min(seconds) / steps
    ratio = '' if name == PLAIN else _ratio(times, name, PLAIN)
    lines += [
      f'| {name} | {times.median_ms(name) / steps:.2f} | {fastest:.2f} '
      f'| {ratio} |'
    ]
  return [
    *lines,
    '',
    f'- reading the gradients alone: {_ratio(times, CHECKED, FIRSTS)}',
    f'- other programs used {result.others:.0%} of the cores',
  ]


def _ratio(times: Times, name: str, other: str) -> str:
  """Returns a ratio with three decimals, the resolution that a check needs."""
  middle, low, high = times.ratio(name, other)
  return f'{middle:.3f} ({low:.3f}–{high:.3f})'


def file_tables(files: Files) -> list[str]:
  """Returns the tables of saving, restoring and verifying."""
  times, here = Times(files.seconds), reliability_files
  ours, theirs = files.stored
  lines = [
    '',
    f'## A checkpoint of {files.size / 1e6:.0f} MB in {files.leaves} arrays, '
    f'{len(times.seconds[here.SAVE])} rounds',
    '',
    f'On disk {ours / 1e6:.0f} MB, compressed by orbax {theirs / 1e6:.0f} MB.',
    '',
    '| | s | quartiles | GB/s | over orbax alone |',
    '|---|---|---|---|---|',
  ]
  groups = {
    here.SAVE_ORBAX: (here.SAVE, here.UNREAD, here.SAVE_DEFAULTS),
    here.RESTORE_ORBAX: (here.RESTORE, here.RESTORE_DEFAULTS),
  }
  beside = {x: other for other, names in groups.items() for x in names}
  for name in here.CALLS:
    over = beside.get(name)
    ratio = times.ratio_text(name, over) if over else ''
    rate = files.size / times.median_ms(name) / 1e6
    lines += [f'{_line(name, times.seconds[name])} {rate:.2f} | {ratio} |']
  lines += ['', '| of a save | s | quartiles |', '|---|---|---|']
  for name in (*here.PARTS, here.CPU, here.SNAPSHOT, here.GIVEN):
    lines += [_line(name, times.seconds[name])]
  return [
    *lines,
    '',
    f'The training thread waits for the last two; CPU seconds are those of all '
    f'threads on {machine.cores()} cores.',
  ]


def _line(name: str, seconds: list[float]) -> str:
  low, middle, high = statistics.quantiles(seconds, n=4)
  return f'| {name} | {middle:.3f} | {low:.3f}–{high:.3f} |'


def report(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
  """Runs all measurements; returns the report as Markdown and as JSON."""
  about = machine.describe('jax', 'jaxlib', 'optax', 'orbax-checkpoint')
  lines = machine.heading('What reliability costs', about)
  lines += ['- medians, ratios within a round as median (quartiles)']
  # Before the sides start, so that they do not share memory and threads.
  files = reliability_files.measure(options.rounds, options.megabytes)
  steps = measure_steps(options.rounds, large=options.large)
  for title, (result, count) in steps.items():
    lines += step_table(title, result, count)
  lines += file_tables(files)
  numbers = {
    'machine': about,
    'rounds': options.rounds,
    'steps': {
      title: {
        'seconds': result.times.seconds,
        'steps': count,
        'facts': result.facts,
        'others': result.others,
      }
      for title, (result, count) in steps.items()
    },
    'files': files._asdict(),
  }
  return '\n'.join(lines) + '\n', numbers


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.reliability_cost')
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--megabytes', type=float, default=300.0)
  parser.add_argument('--large', action='store_true')
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
    print(machine.save('reliability_cost', text, numbers))


if __name__ == '__main__':
  main()
