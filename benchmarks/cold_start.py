"""Time from process start to the first training step, cold and warm cache.

  python -m benchmarks.cold_start             # prints the table, 4 minutes
  python -m benchmarks.cold_start --save      # and writes benchmarks/results/

Each time is that of a new `python -m launch.main` until it reports that its
first dispatch is done. Cold: with an empty compilation cache. Warm: with the
cache of the process before. The two alternate. The time is split where the run
is opened: imports, devices, data and the initial state come before, the
training step after. `--config` and `--set` select another run. The default is
PreAct-ResNet18 on the digits, which need no download, in bfloat16 as on CIFAR.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

from benchmarks.harness import machine
from benchmarks.harness.rounds import ROOT
from benchmarks.harness.timing import Times

CONFIG = 'configs/table1_cifar.py:smoke'
FIELDS = (
  'data.name=digits',
  'model.width=64',
  'augment.pad=1',
  'augment.flip=False',
)


class Start(NamedTuple):
  """One measured start.

  Attributes:
    opened: seconds until data and initial state are ready.
    first: seconds until the first dispatch is done.
    programs: number of programs built by then.
    cached: number of those that came from the cache.
  """

  opened: float
  first: float
  programs: int
  cached: int


def start(config: str, fields: list[str], cache: str) -> Start:
  """Starts the trainer and reads the times from its output.

  Raises:
    RuntimeError: it did not finish its first step; includes its output.
  """
  with tempfile.TemporaryDirectory() as folder:
    command = [sys.executable, '-m', 'launch.main', f'--config={config}']
    command += [f'--config.{field}' for field in fields]
    command += [f'--workdir={folder}/run', f'--compilation_cache={cache}']
    begin = time.perf_counter()
    process = subprocess.Popen(
      command,
      cwd=ROOT,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
      env=os.environ | {'PYTHONUNBUFFERED': '1'},
    )
    output, opened, measured = [], 0.0, None
    for line in process.stderr or ():
      now = time.perf_counter() - begin
      output.append(line)
      if ': step 0 of ' in line:
        opened = now
      match = re.match(r'first .*\((\d+) programs, (\d+) of', line)
      if match:
        measured = Start(opened, now, *map(int, match.groups()))
    if process.wait() or measured is None:
      raise RuntimeError(f'{" ".join(command)}\n{"".join(output)}')
  return measured


def report(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
  """Runs all measurements; returns the report as Markdown and as JSON."""
  about = machine.describe('jax', 'jaxlib', 'flax', 'optax')
  starts: dict[str, list[Start]] = {'cold': [], 'warm': []}
  with tempfile.TemporaryDirectory() as folder:
    # Brings the files of all imports into the page cache.
    start(options.config, options.set, f'{folder}/before')
    for number in range(options.rounds):
      for name, measured in starts.items():
        cache = f'{folder}/{number}'
        measured.append(start(options.config, options.set, cache))
        print(f'{name}: {measured[-1]}', file=sys.stderr, flush=True)
  if any(start.cached for start in starts['cold']):
    raise RuntimeError(f'a cold start loaded programs from a cache: {starts}')
  times = Times({name: [s.first for s in x] for name, x in starts.items()})
  lines = ['# Cold start', '', f'`{" ".join(sys.orig_argv[1:])}`', '']
  lines += [f'- {name}: {value}' for name, value in about.items()]
  lines += [f'- run: {options.config} {" ".join(options.set)}']
  lines += [f'- rounds: {options.rounds}; medians, ratio as median (quartiles)']
  lines += [
    '',
    '| cache | first step, s | until the run is opened, s | programs |',
  ]
  lines += ['|---|---|---|---|']
  for name, measured in starts.items():
    opened = statistics.median(s.opened for s in measured)
    first = statistics.median(s.first for s in measured)
    lines += [
      f'| {name} | {first:.2f} | {opened:.2f} | {measured[0].programs}, '
      f'{measured[0].cached} from the cache |'
    ]
  middle, low, high = times.ratio('warm', 'cold')
  lines += ['', f'Warm over cold: {middle:.2f} ({low:.2f}–{high:.2f})']
  numbers = {'machine': about, 'rounds': options.rounds, 'starts': starts}
  return '\n'.join(lines) + '\n', numbers


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.cold_start')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--config', default=CONFIG)
  parser.add_argument('--set', nargs='*', default=list(FIELDS))
  parser.add_argument('--save', action='store_true')
  options = parser.parse_args()
  if options.rounds < 3:
    parser.error(
      f'--rounds={options.rounds} must be at least 3, to compute quartiles'
    )
  text, numbers = report(options)
  print(text)
  if options.save:
    print(machine.save('cold_start', text, numbers))


if __name__ == '__main__':
  main()
