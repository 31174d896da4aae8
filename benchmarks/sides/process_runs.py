"""Training runs of `benchmarks.process_scaling`, started as on a cluster."""

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

VIRTUAL_DEVICES = 4  # the same in every run, so that all train the same
TIMEOUT = 300  # seconds

DIGITS, HEAD = 'WRN-10-1, digits', 'text head'
EXAMPLES = {DIGITS: 1437, HEAD: 1024}
BATCH = {DIGITS: 64, HEAD: 128}
STEPS = {DIGITS: 128, HEAD: 48}
CALL = {DIGITS: 16, HEAD: 8}  # steps per dispatch and per metric record
CONFIG = {
  DIGITS: 'configs/quickstart.py',
  HEAD: 'configs/retrieval_quickstart.py',
}


@dataclasses.dataclass(frozen=True)
class Case:
  """The options of one run.

  Attributes:
    net: `DIGITS` or `HEAD`.
    batch: examples per step.
    processes: number of processes.
    devices: devices per process.
    invariant: whether the run is device-count-invariant.
    pinned: whether each process is pinned to one core.
  """

  net: str
  batch: int
  processes: int = 1
  devices: int = 1
  invariant: bool = False
  pinned: bool = True


def command(
  case: Case, source: str, folder: pathlib.Path, port: int
) -> list[list[str]]:
  """Returns the command of each process of a run."""
  call = CALL[case.net]
  fields: dict[str, Any] = {
    'batch_size': case.batch,
    'virtual_devices': VIRTUAL_DEVICES,
    'device_count_invariant': case.invariant,
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
  """Trains; returns examples per second.

  Raises:
    RuntimeError: a process failed; includes its output.
  """
  with socket.socket() as listener:
    listener.bind(('localhost', 0))
    port = listener.getsockname()[1]
  cores = sorted(os.sched_getaffinity(0))
  env = os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': str(case.devices),
    # Enough threads that collectives of several devices do not deadlock.
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
      _, output = process.communicate(timeout=TIMEOUT)
      if process.returncode:
        raise RuntimeError(
          f'{case} ended with exit code {process.returncode}:\n{output}'
        )
  finally:
    for process in processes:
      process.kill()
  return rate((folder / 'metrics.jsonl').read_text())


def rate(records: str) -> float:
  """Returns the median throughput, without the first quarter of the records.

  Args:
    records: contents of a `metrics.jsonl`.

  Examples:
    >>> records = [{'time/examples_per_s': x} for x in (1.0, 9.0, 5.0, 7.0)]
    >>> rate(''.join(json.dumps(record) + chr(10) for record in records))
    7.0
  """
  name = 'time/examples_per_s'
  parsed = map(json.loads, records.splitlines())
  rates = [record[name] for record in parsed if name in record]
  return statistics.median(rates[len(rates) // 4 :])


def write_features(folder: str) -> str:
  """Writes a random feature set with the dimensions of COCO's features."""
  rng = np.random.default_rng(0)

  def split(count, start):
    ids = start + np.arange(count)
    split_captions = captions.build(
      ids,
      [f'{i}.jpg' for i in ids],
      [(row, 'en', f'image {start + row}') for row in range(count)],
    )
    images = np.abs(rng.standard_normal((count, IMAGE_DIM), np.float32))
    texts = rng.standard_normal((count, TEXT_DIM), np.float32)
    return feature_set.Split(split_captions, images, texts)

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
