"""Single runs for `benchmarks.process_scaling`, as a cluster starts them."""

import dataclasses
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.harness.rounds import ROOT
from benchmarks.sides.retrieval_data import IMAGE_DIM, TEXT_DIM
from jaxretrieval.feature_sets import captions, feature_set

SHARDS = 4  # of every run: all of them train the same
SLOWEST = 300  # seconds

DIGITS, HEAD = 'WRN-10-1, digits', 'text head'
EXAMPLES = {DIGITS: 1437, HEAD: 1024}
BATCH = {DIGITS: 64, HEAD: 128}
STEPS = {DIGITS: 128, HEAD: 48}
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


def command(
  case: Case, source: str, folder: pathlib.Path, port: int
) -> list[list[str]]:
  """What starts each process of a run."""
  call = CALL[case.net]
  fields: dict[str, Any] = {
    'batch_size': case.batch,
    'virtual_devices': SHARDS,
    'device_count_invariant': case.elastic,
    'epochs': STEPS[case.net] * case.batch / EXAMPLES[case.net],
    'steps_per_dispatch': call,
    'log_every': call,
    'eval_every': 1e6,
    'checkpoint_every': 1e6,
  }
  if case.net == DIGITS:
    fields['batch_norm'] = 'ghost'
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


def run(case: Case, source: str, folder: pathlib.Path) -> float:
  """Trains; returns the examples a second.

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
  return rate((folder / 'metrics.jsonl').read_text())


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
    return feature_set.Split(said, images, texts)

  train = EXAMPLES[HEAD]
  return str(
    feature_set.write(
      folder,
      'random',
      namespace='random',
      encoders=feature_set.Encoders('random images, 1', 'random texts, 1'),
      licence='none',
      splits={'train': split(train, 0), 'test': split(64, train)},
    )
  )
