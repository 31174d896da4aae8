"""Runs of one, two and four processes on this machine, and elastic ones.

  python -m benchmarks.process_scaling          # prints the tables
  python -m benchmarks.process_scaling --save   # and writes benchmarks/results/

Each figure is of `python -m launch.main` as a cluster starts it, with gloo
between the processes; what is read is the rate that a run writes down, without
its compiling and its first rows. A process has one device and one core, as far
as there are cores: more processes than cores take turns on them, and what they
are slower then is what talking costs. A process of two devices has all cores.
All take turns, round by round.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
from typing import Any

from benchmarks.harness import control, machine
from benchmarks.harness.bystanders import Bystanders
from benchmarks.harness.timing import Times
from benchmarks.sides.process_runs import (
  BATCH,
  DIGITS,
  SHARDS,
  Case,
  run,
  write_features,
)

PROCESSES = (1, 2, 4)
ELASTIC = 'Elastic, processes of so many devices'


def cases() -> dict[str, dict[str, Case]]:
  """The runs, by the table that they stand in and their row there."""
  found: dict[str, dict[str, Case]] = {}
  for net, batch in BATCH.items():
    found[f'{net}, {batch} a step'] = {
      _processes(n): Case(net, batch, n) for n in PROCESSES
    }
  # gloo sums one array after the other, and an elastic step has one.
  found[ELASTIC] = {
    f'{name}, {_processes(processes)} of {devices}': Case(
      DIGITS,
      BATCH[DIGITS],
      processes,
      devices,
      elastic=name == 'elastic',
      pinned=devices == 1,
    )
    for processes, devices in ((1, 1), (2, 1), (1, 2))
    for name in ('default', 'elastic')
  }
  return found


def _processes(count: int) -> str:
  return f'{count} process{"es" * (count > 1)}'


def measure(rounds: int) -> tuple[dict[str, Times], float]:
  """Seconds of an example, by table and row; what others had of the cores."""
  tables = cases()
  found: dict[str, dict[str, list[float]]] = {
    table: {row: [] for row in rows} for table, rows in tables.items()
  }
  bystanders = Bystanders([os.getpid()])
  with tempfile.TemporaryDirectory() as folder:
    source = write_features(f'{folder}/sets')
    for number in range(rounds):
      done: dict[Case, float] = {}
      for table, rows in tables.items():
        for row, case in rows.items():
          if case not in done:
            workdir = pathlib.Path(folder) / f'{number}' / f'{len(done)}'
            done[case] = run(case, source, workdir)
            shown = f'{number}: {table}: {row}: {done[case]:.0f} examples/s'
            print(shown, file=sys.stderr, flush=True)
          found[table][row].append(1 / done[case])
  return {x: Times(rows) for x, rows in found.items()}, bystanders.share()


def table_lines(times: Times) -> list[str]:
  """One table: lines of Markdown, each row beside the first."""
  first = next(iter(times.seconds))
  lines = [f'| | examples/s | all rounds | speed over {first} |']
  lines += ['|---|---|---|---|']
  for row, seconds in times.seconds.items():
    rates = sorted(1 / x for x in seconds)
    ratio = '' if row == first else times.ratio_text(first, row)
    lines += [
      f'| {row} | {statistics.median(rates):.0f} '
      f'| {rates[0]:.0f} to {rates[-1]:.0f} | {ratio} |'
    ]
  return lines


def report(rounds: int) -> tuple[str, dict[str, Any]]:
  """Measures everything: a Markdown text, and the numbers for a program."""
  about = machine.describe('jax', 'jaxlib', 'flax', 'optax')
  tables, others = measure(rounds)
  lines = machine.heading('Runs of several processes', about)
  lines += [
    f'- rounds: {rounds}; medians, ratios within a round as median (quartiles)',
    f'- other programs had {others:.0%} of the cores'
    f'{": REFUSED, not written to results/" * (others > control.OTHERS)}',
    f'- config.virtual_devices={SHARDS} and, where there is BatchNorm, '
    "config.batch_norm='ghost'",
    f'- a process has one core, of {machine.cores()}: more processes than '
    'those cannot be faster; one of two devices has all of them',
  ]
  for title, times in tables.items():
    lines += ['', f'## {title}', '', *table_lines(times)]
  lines += _elastic_lines(tables[ELASTIC])
  numbers = {
    'machine': about,
    'rounds': rounds,
    'others': others,
    'seconds of an example': {
      title: times.seconds for title, times in tables.items()
    },
  }
  return '\n'.join(lines) + '\n', numbers


def _elastic_lines(times: Times) -> list[str]:
  names = list(times.seconds)
  return ['', '- time over that of the same, default:'] + [
    f'  {elastic}: {times.ratio_text(elastic, default)}'
    for default, elastic in zip(names[::2], names[1::2], strict=True)
  ]


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.process_scaling')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--save', action='store_true')
  options = parser.parse_args()
  if options.rounds < 3:
    parser.error('--rounds must be 3 or more: quartiles are reported')
  text, numbers = report(options.rounds)
  print(text)
  if options.save and numbers['others'] > control.OTHERS:
    sys.exit(control.REFUSED)
  if options.save:
    print(machine.save('process_scaling', text, numbers))


if __name__ == '__main__':
  main()
