"""From the start of a process to its first training step, cold and warm.

  python -m benchmarks.cold_start             # prints the table, 4 minutes
  python -m benchmarks.cold_start --save      # and writes benchmarks/results/

Each time is that of a fresh `python -m launch.main`, as people type it, until
it says that its first call is done. Cold: with an empty cache of compiled
programs. Warm: with the cache that the process before left. They take turns.
The time is split where the run is opened: imports, devices, data and the
initial state come before, the training step after. `--config` and `--set`
choose another run; the default is PreAct-ResNet18 on the digits, since they
need no download, in bfloat16 as on CIFAR.
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
  """One start.

  Attributes:
    opened: seconds until data and initial state are there.
    first: seconds until the first call is done.
    programs: how many were built until then.
    cached: how many of those came from the cache.
  """

  opened: float
  first: float
  programs: int
  cached: int


def start(config: str, fields: list[str], cache: str) -> Start:
  """Starts the trainer and watches what it says.

  Raises:
    RuntimeError: it did not come to its first step; what it said.
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
    said, opened, found = [], 0.0, None
    for line in process.stderr or ():
      now = time.perf_counter() - begin
      said.append(line)
      if ': step 0 of ' in line:
        opened = now
      told = re.match(r'first .*\((\d+) programs, (\d+) of', line)
      if told:
        found = Start(opened, now, *map(int, told.groups()))
    if process.wait() or found is None:
      raise RuntimeError(f'{" ".join(command)}\n{"".join(said)}')
  return found


def report(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
  """Measures everything: a Markdown text, and the numbers for a program."""
  about = machine.describe('jax', 'jaxlib', 'flax', 'optax')
  starts: dict[str, list[Start]] = {'cold': [], 'warm': []}
  with tempfile.TemporaryDirectory() as folder:
    # Reads the files of all imports once, which is not what is compared.
    start(options.config, options.set, f'{folder}/before')
    for number in range(options.rounds):
      for name, found in starts.items():
        cache = f'{folder}/{number}'
        found.append(start(options.config, options.set, cache))
        print(f'{name}: {found[-1]}', file=sys.stderr, flush=True)
  if any(found.cached for found in starts['cold']):
    raise RuntimeError(f'a cold start found programs: {starts}')
  times = Times({name: [s.first for s in x] for name, x in starts.items()})
  lines = ['# Cold start', '', f'`{" ".join(sys.orig_argv[1:])}`', '']
  lines += [f'- {name}: {value}' for name, value in about.items()]
  lines += [f'- run: {options.config} {" ".join(options.set)}']
  lines += [f'- rounds: {options.rounds}; medians, ratio as median (quartiles)']
  lines += ['', '| cache | first step, s | of it until opened | programs |']
  lines += ['|---|---|---|---|']
  for name, found in starts.items():
    opened = statistics.median(s.opened for s in found)
    first = statistics.median(s.first for s in found)
    lines += [
      f'| {name} | {first:.2f} | {opened:.2f} | {found[0].programs}, '
      f'{found[0].cached} of the cache |'
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
    parser.error('--rounds must be 3 or more: quartiles are reported')
  text, numbers = report(options)
  print(text)
  if options.save:
    print(machine.save('cold_start', text, numbers))


if __name__ == '__main__':
  main()
