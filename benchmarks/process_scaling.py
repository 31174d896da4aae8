"""Runs of one, two and four processes on this machine, and elastic ones.

  python -m benchmarks.process_scaling          # prints the tables
  python -m benchmarks.process_scaling --save   # and writes benchmarks/results/

Each figure is of `python -m launch.main` as a cluster starts it, with gloo
between the processes; what is read is the rate that a run writes down, without
its compiling and its first rows. A process has one device and one core, as far
as there are cores: more processes than cores take turns on them, and what they
are slower then is what talking costs. Elastic runs are one process with all
cores. All take turns, round by round.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from benchmarks import control, machine
from benchmarks.bystanders import Bystanders
from benchmarks.retrieval_data import IMAGE_DIM, TEXT_DIM
from benchmarks.rounds import ROOT
from benchmarks.timing import Times
from jaxretrieval import captions, features

PROCESSES = (1, 2, 4)
SHARDS = 4  # of every run: all of them train the same
SLOWEST = 300  # seconds
TRIES = 3  # of a run, until other programs leave it alone

DIGITS, HEAD = 'WRN-10-1, digits', 'text head'
EXAMPLES = {DIGITS: 1437, HEAD: 1024}
BATCH = {DIGITS: 64, HEAD: 128}
STEPS = {DIGITS: 256, HEAD: 64}
CALL = {DIGITS: 16, HEAD: 8}  # steps of a call, and of a row
CONFIG = {
  DIGITS: 'configs/quickstart.py',
  HEAD: 'configs/retrieval_quickstart.py',
}


@dataclasses.dataclass(frozen=True)
class Case:
  """One kind of run.

  Attributes:
    net: `DIGITS` or `HEAD`.
    batch: examples of a step.
    processes: how many.
    devices: of each.
    elastic: whether its bits are those of any number of devices.
    pinned: whether a process has one core.
  """

  net: str
  batch: int
  processes: int = 1
  devices: int = 1
  elastic: bool = False
  pinned: bool = True


def cases() -> dict[str, dict[str, Case]]:
  """The runs, by the table that they stand in and their row there."""
  found: dict[str, dict[str, Case]] = {}
  for net, batch in BATCH.items():
    found[f'{net}, {batch} a step'] = {
      _processes(n): Case(net, batch, n) for n in PROCESSES
    }
  # With one process it is the same as above.
  found[f'{DIGITS}, {BATCH[DIGITS]} a process'] = {
    _processes(n): Case(DIGITS, n * BATCH[DIGITS], n) for n in PROCESSES
  }
  found['elastic'] = {
    f'{name}, {devices} devices': Case(
      DIGITS, BATCH[DIGITS], 1, devices, name == 'elastic', pinned=False
    )
    for devices in (1, 2)
    for name in ('default', 'elastic')
  }
  return found


def _processes(count: int) -> str:
  return f'{count} process{"es" * (count > 1)}'


def command(
  case: Case, source: str, folder: pathlib.Path, port: int
) -> list[list[str]]:
  """What starts each process of a run."""
  call = CALL[case.net]
  fields: dict[str, Any] = {
    'batch_size': case.batch,
    'virtual_shards': SHARDS,
    'determinism': 'elastic' if case.elastic else 'default',
    'epochs': STEPS[case.net] * case.batch / EXAMPLES[case.net],
    'steps_per_call': call,
    'log_every': call,
    'eval_every': 1e6,
    'checkpoint_every': 1e6,
  }
  if case.net == DIGITS:
    fields['batch_norm'] = 'shard'
  else:
    fields |= {'data.source': source, 'evals.test.languages': "('en',)"}
  one = [sys.executable, '-m', 'launch.main', f'--config={CONFIG[case.net]}']
  one += [f'--config.{name}={value}' for name, value in fields.items()]
  one += [f'--workdir={folder}', f'--compilation_cache={folder.parents[1]}/xla']
  if case.processes == 1:
    return [one]
  one += [f'--coordinator=localhost:{port}']
  one += [f'--num_processes={case.processes}']
  return [[*one, f'--process_id={rank}'] for rank in range(case.processes)]


def run(case: Case, source: str, folder: pathlib.Path) -> tuple[float, float]:
  """Trains; the examples a second, and what others had of the cores.

  Raises:
    RuntimeError: a process did not end well; what it said.
  """
  with socket.socket() as listener:
    listener.bind(('localhost', 0))
    port = listener.getsockname()[1]
  cores = sorted(os.sched_getaffinity(0))
  env = os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': str(case.devices),
    # As many threads as collectives of several devices need not to wait.
    'NPROC': str(2 if case.pinned else 2 * case.devices + 2),
  }
  bystanders = Bystanders([os.getpid()])
  processes = []
  for rank, words in enumerate(command(case, source, folder, port)):
    core = cores[rank % len(cores)]
    if case.pinned:
      words = ['taskset', '--cpu-list', str(core), *words]
    processes.append(
      subprocess.Popen(
        words,
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
      )
    )
  try:
    for process in processes:
      _, said = process.communicate(timeout=SLOWEST)
      if process.returncode:
        raise RuntimeError(f'{case} ended with {process.returncode}:\n{said}')
  finally:
    for process in processes:
      process.kill()
  others = bystanders.share()
  return rate((folder / 'metrics.jsonl').read_text()), others


def rate(rows: str) -> float:
  """The median rate of a run, without the first quarter of its rows.

  Args:
    rows: of a `metrics.jsonl`.

  Examples:
    >>> rows = [{'time/examples_per_s': x} for x in (1.0, 9.0, 5.0, 7.0)]
    >>> rate(''.join(json.dumps(row) + chr(10) for row in rows))
    7.0
  """
  found = [json.loads(line) for line in rows.splitlines()]
  name = 'time/examples_per_s'
  rates = [row[name] for row in found if name in row]
  return statistics.median(rates[len(rates) // 4 :])


def write_features(folder: str) -> str:
  """Writes a feature set of random numbers, as wide as COCO's."""
  rng = np.random.default_rng(0)

  def split(count, start):
    ids = start + np.arange(count)
    said = captions.build(
      ids,
      [f'{i}.jpg' for i in ids],
      [(row, 'en', f'picture {start + row}') for row in range(count)],
    )
    images = np.abs(rng.standard_normal((count, IMAGE_DIM), np.float32))
    texts = rng.standard_normal((count, TEXT_DIM), np.float32)
    return features.Split(said, images, texts)

  train = EXAMPLES[HEAD]
  return str(
    features.write(
      folder,
      'random',
      namespace='random',
      encoders=features.Encoders('random images, 1', 'random texts, 1'),
      licence='none',
      splits={'train': split(train, 0), 'test': split(64, train)},
    )
  )


def measure(rounds: int) -> tuple[dict[str, Times], float]:
  """Seconds of an example by table and row; the most that others had."""
  tables, most = cases(), 0.0
  found: dict[str, dict[str, list[float]]] = {
    table: {row: [] for row in rows} for table, rows in tables.items()
  }
  with tempfile.TemporaryDirectory() as folder:
    source = write_features(f'{folder}/sets')
    for number in range(rounds):
      done: dict[Case, float] = {}
      for table, rows in tables.items():
        for row, case in rows.items():
          if case not in done:
            least, done[case] = _steadily(case, source, folder)
            most = max(most, least)
            print(
              f'{number}: {table}: {row}: {done[case]:.0f} examples/s, others '
              f'had {least:.0%}',
              file=sys.stderr,
              flush=True,
            )
          found[table][row].append(1 / done[case])
  return {table: Times(rows) for table, rows in found.items()}, most


def _steadily(case: Case, source: str, folder: str) -> tuple[float, float]:
  """The least disturbed of some tries: what others had, and its rate."""
  tries = []
  while len(tries) < TRIES:
    with tempfile.TemporaryDirectory(dir=folder) as workdir:
      speed, others = run(case, source, pathlib.Path(workdir) / 'run')
    tries.append((others, speed))
    if others <= control.OTHERS:
      break
  return min(tries)


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
    f'- other programs had at most {others:.0%} of the cores in a run; one with '
    f'more than {control.OTHERS:.0%} is tried again, {TRIES} times'
    f'{": REFUSED, not written to results/" * (others > control.OTHERS)}',
    f'- config.virtual_shards={SHARDS} and, where there is BatchNorm, '
    "config.batch_norm='shard'",
    f'- a process has one core, of {machine.cores()}: more processes than '
    'those cannot be faster; elastic and beside it: one process with all',
  ]
  for title, times in tables.items():
    lines += ['', f'## {title}', '', *table_lines(times)]
  lines += _elastic_lines(tables['elastic'])
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
  lines = ['']
  for devices in (1, 2):
    pair = [f'{name}, {devices} devices' for name in ('elastic', 'default')]
    ratio = times.ratio_text(*pair)
    lines += [f'- time of {pair[0]}, over {pair[1]}: {ratio}']
  return lines


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
