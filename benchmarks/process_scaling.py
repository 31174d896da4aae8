"""Throughput of runs with one, two and four processes on this machine.

  python -m benchmarks.process_scaling          # prints the tables
  python -m benchmarks.process_scaling --save   # and writes benchmarks/results/

Each run is `python -m launch.main`, started as a cluster starts it, with gloo
between the processes. The benchmark reads the throughput that the run records,
without compilation and without the first records. A process has one device and
is pinned to one core. If there are more processes than cores, they share them,
and the slowdown is the cost of communication. A process with two devices may
use all cores. All runs alternate in rounds.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
from typing import Any

from benchmarks.harness import control, machine
from benchmarks.harness.other_programs import OtherPrograms
from benchmarks.harness.timing import Times
from benchmarks.sides.process_runs import (
  BATCH,
  DIGITS,
  VIRTUAL_DEVICES,
  Case,
  run,
  write_features,
)

PROCESSES = (1, 2, 4)
INVARIANT = 'Device-count-invariant steps, by devices per process'


def cases() -> dict[str, dict[str, Case]]:
  """Returns the runs, by table and by line of that table."""
  tables: dict[str, dict[str, Case]] = {}
  for net, batch in BATCH.items():
    tables[f'{net}, {batch} per step'] = {
      _processes(n): Case(net, batch, n) for n in PROCESSES
    }
  # gloo sums one array after the other; a device-count-invariant step has one.
  tables[INVARIANT] = {
    f'{name}, {_processes(processes)} of {devices}': Case(
      DIGITS,
      BATCH[DIGITS],
      processes,
      devices,
      invariant=name == 'invariant',
      pinned=devices == 1,
    )
    for processes, devices in ((1, 1), (2, 1), (1, 2))
    for name in ('default', 'invariant')
  }
  return tables


def _processes(count: int) -> str:
  return f'{count} process{"es" * (count > 1)}'


def measure(rounds: int) -> tuple[dict[str, Times], float]:
  """Returns seconds per example, by table and line, and the load of others."""
  tables = cases()
  seconds: dict[str, dict[str, list[float]]] = {
    table: {row: [] for row in rows} for table, rows in tables.items()
  }
  other_programs = OtherPrograms([os.getpid()])
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
          seconds[table][row].append(1 / done[case])
  times = {table: Times(rows) for table, rows in seconds.items()}
  return times, other_programs.fraction()


def table_lines(times: Times) -> list[str]:
  """Returns a table in Markdown that compares each line with the first."""
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
  """Runs all measurements; returns the report as Markdown and as JSON."""
  about = machine.describe('jax', 'jaxlib', 'flax', 'optax')
  tables, others = measure(rounds)
  lines = machine.heading('Runs of several processes', about)
  lines += [
    f'- rounds: {rounds}; medians, ratios within a round as median (quartiles)',
    f'- other programs used {others:.0%} of the cores'
    f'{": REJECTED, not written to results/" * (others > control.MAX_OTHERS)}',
    f'- config.virtual_devices={VIRTUAL_DEVICES} and, with BatchNorm, '
    "config.batch_norm='ghost'",
    f'- a process has one of {machine.cores()} cores, so more processes than '
    'cores cannot be faster; a process with two devices has all cores',
  ]
  for title, times in tables.items():
    lines += ['', f'## {title}', '', *table_lines(times)]
  lines += _invariant_lines(tables[INVARIANT])
  numbers = {
    'machine': about,
    'rounds': rounds,
    'others': others,
    'seconds of an example': {
      title: times.seconds for title, times in tables.items()
    },
  }
  return '\n'.join(lines) + '\n', numbers


def _invariant_lines(times: Times) -> list[str]:
  names = list(times.seconds)
  return ['', '- time relative to the default step:'] + [
    f'  {invariant}: {times.ratio_text(invariant, default)}'
    for default, invariant in zip(names[::2], names[1::2], strict=True)
  ]


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.process_scaling')
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--save', action='store_true')
  options = parser.parse_args()
  if options.rounds < 3:
    parser.error(
      f'--rounds={options.rounds} must be at least 3, to compute quartiles'
    )
  text, numbers = report(options.rounds)
  print(text)
  if options.save and numbers['others'] > control.MAX_OTHERS:
    sys.exit(control.REJECTED)
  if options.save:
    print(machine.save('process_scaling', text, numbers))


if __name__ == '__main__':
  main()
