"""Bookkeeping of an image store at full scale, without any images.

  python -m benchmarks.gallery_scale --work /scratch/scale     # 100 million

Everything is as in an extraction, except for the images: each shard is an empty
tar file, and its file list and features are computed from row numbers, four
features per image. Several rounds of processes, in SLURM arrays of several
sizes, encode the shards; some are killed (SIGKILL) at random moments. Then
every id must exist exactly once, and images must be found by their features,
with their names. Each phase runs in its own process and prints its time and its
peak growth of memory. 100 million images take 10 GB of disk and half an hour on
two cores. An interrupted benchmark resumes when it is run again.
"""

import argparse
import collections
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.harness.memory import status
from jaxretrieval.extract import caption_files, encoders, encoding, image_shards
from jaxretrieval.extract import gallery as extract
from jaxretrieval.extract.processes import Process
from jaxretrieval.index import image_store, sharded
from jaxretrieval.index.sharded_array import Features, ShardOffsets

# For each round: shards per process, and the fraction of processes to kill.
ROUNDS = ((10, 0.5), (200, 0.5), (1500, 0.3), (5000, 0.0))
DIGITS = 2048  # float16 represents all integers up to this
DIM = 1280  # size of realistic features
ENCODER = encoders.Encoder('synthetic 1', 4, lambda rows: np.zeros((0, 4)))


def features_of(rows: np.ndarray) -> np.ndarray:
  """Returns features that identify the row, float16 [n, 4]: its digits."""
  digits = [rows // DIGITS**i % DIGITS for i in range(4)]
  return np.stack(digits, -1).astype(np.float16)


def name_of(row: int, size: int) -> str:
  """Returns the file name of a row, as img2dataset names files."""
  return f'{row // size:05d}.tar/{row // size:05d}{row % size:06d}.jpg'


def near(row: int, total: int) -> list[int]:
  """Returns the rows at distance 1, sorted: one digit differs by one."""
  others = {row + sign * DIGITS**i for i in range(4) for sign in (-1, 1)}
  rows = np.array(sorted(r for r in others if 0 <= r < total))
  apart = features_of(rows).astype(int) - features_of(np.array(row))
  return rows[(apart**2).sum(1) == 1].tolist()


def patch_images(size: int) -> None:
  """Replaces images by row numbers in this process."""

  def list_files(shard: image_shards.ImageShard) -> dict[str, Any]:
    number = int(shard.name)
    rows = range(number * size, (number + 1) * size)
    return {name_of(row, size): row for row in rows}

  def encode_images(encoder, files, batch_size, pool, bar):
    bar.update(len(files))
    return features_of(np.array(files, np.int64)), {}

  # The extraction calls these two functions.
  image_shards.list_files = list_files
  encoding.encode_images = encode_images


def plan(work: pathlib.Path, size: int) -> dict[str, Any]:
  """Times what a process does before its first image and after its last."""
  del size
  cut = image_shards.cut(work / 'tars', 1)
  names = [shard.name for shard in cut]
  image_store.start(
    work / 'gallery', image_store.ImageStore('synthetic 1', 'x', 'x', names)
  )
  mine = Process(17, 1000).share(cut)
  left = image_store.missing(work / 'gallery', names)
  return {'shards': len(cut), 'own': len(mine), 'not there': len(left)}


def encode(work: pathlib.Path, size: int) -> dict[str, Any]:
  """Runs rounds of processes, two at once, and kills some of them."""
  patch_images(size)
  rng = random.Random(0)
  killed = 0
  cut = image_shards.cut(work / 'tars', 1)
  for each, killed_fraction in ROUNDS:
    count, took = len(cut) // each + 2, time.perf_counter()
    tasks = rng.sample(range(count), count)
    running: list[tuple[Any, float]] = []
    while tasks or running:
      if tasks and len(running) < 2:
        process = Process(tasks.pop(), count)
        fork = multiprocessing.get_context('fork')
        child = fork.Process(target=_task, args=(work, cut, process))
        child.start()
        own = max(len(process.share(cut)) * size * 5e-6, 0.02)
        ends = rng.random() * own if rng.random() < killed_fraction else np.inf
        if killed_fraction and len(tasks) == count - 1:
          ends = 0  # kills at least one, however fast the machine is
        running.append((child, time.perf_counter() + ends))
      for child, ends in list(running):
        if child.exitcode is None and time.perf_counter() > ends:
          os.kill(child.pid, signal.SIGKILL)
          child.join()
        if child.exitcode is not None:
          if child.exitcode not in (0, -signal.SIGKILL):
            raise ChildProcessError(f'a task ended with {child.exitcode}')
          killed += child.exitcode != 0
          running.remove((child, ends))
      time.sleep(0.002)
    there = len(cut) - len(image_store.missing(work / 'gallery', _names(cut)))
    print(
      f'  {count} processes: {there} of {len(cut)} shards, '
      f'{time.perf_counter() - took:.0f} s',
      file=sys.stderr,
    )
  return {'killed': killed, 'partial files': _partial_files(work)}


def _task(
  work: pathlib.Path, cut: list[image_shards.ImageShard], process: Process
):
  save = image_store.save

  def logged(folder, name, record, features):
    save(folder, name, record, features)
    with (work / 'saved').open('a') as log:
      log.write(f'{name}\n')

  image_store.save = logged
  sys.stderr = open(os.devnull, 'w')  # no progress bars
  extract.encode(
    cut, ENCODER, work / 'gallery', namespace='x', licence='x', process=process
  )


def _names(cut: list[image_shards.ImageShard]) -> list[str]:
  return [shard.name for shard in cut]


def _partial_files(work: pathlib.Path) -> int:
  """Returns the number of partial files that killed processes left."""
  names = os.listdir(work / 'gallery' / image_store.SHARDS)
  return sum(not name.endswith(('.npy', '.json')) for name in names)


def check(work: pathlib.Path, size: int) -> dict[str, Any]:
  """Checks that every id is in exactly one shard and every shard is correct."""
  about = image_store.read_info(work / 'gallery')
  ids = np.empty(len(about.shards) * size, np.int64)
  for i, name in enumerate(about.shards):
    _, path = image_store.paths(work / 'gallery', name)
    record = image_store.read_record(path)
    rows = range(i * size, (i + 1) * size)
    expected = [name_of(row, size) for row in rows]
    assert record.names == expected, f'shard {name} has other images'
    ids[rows.start : rows.stop] = record.ids
  for row in np.linspace(0, len(ids) - 1, 999).astype(np.int64).tolist():
    number = caption_files.name_id(name_of(row, size))
    assert ids[row] == number, f'row {row} has another id'
  ids.sort()
  assert (np.diff(ids) > 0).all(), 'an id exists twice'
  saved = collections.Counter((work / 'saved').read_text().split())
  assert set(saved) <= set(about.shards) and max(saved.values()) == 1, (
    'a finished shard was encoded again'
  )
  return {'ids': len(ids), 'largest id': int(ids[-1])}


def index(work: pathlib.Path, size: int) -> dict[str, Any]:
  """Verifies the sha256 of the shards and links them into an index."""
  del size
  shutil.rmtree(work / 'index', ignore_errors=True)
  (work / 'index').mkdir()
  counts = sharded.link(work / 'gallery', work / 'index', ENCODER.id)
  (work / 'index' / 'counts.json').write_text(json.dumps(counts))
  return {'rows': sum(count for count, _ in counts.values())}


def find(work: pathlib.Path, size: int) -> dict[str, Any]:
  """Opens the index and searches images by their features."""
  from jaxretrieval import search

  counts = json.loads((work / 'index' / 'counts.json').read_text())
  begin = time.perf_counter()
  opened = sharded.read(work / 'index', counts, 4, 1.0)
  took = time.perf_counter() - begin
  total = len(opened.features)
  rows = np.linspace(0, total - 1, 8).astype(np.int64)
  queries = features_of(rows).astype(np.float32)
  distances, found = search.nearest(opened.features, queries, 3)
  assert (distances == [0, 1, 1]).all(), distances
  for row, nearest in zip(rows.tolist(), found.tolist(), strict=True):
    assert nearest == [row, *near(row, total)[:2]], f'row {row}: {nearest}'
    name = name_of(row, size)
    assert opened.names[row] == name, f'row {row} is named {opened.names[row]}'
    assert opened.ids[row] == caption_files.name_id(name)
  return {'rows': total, 'queries': len(rows), 'seconds to open': took}


def offsets(work: pathlib.Path, size: int) -> dict[str, Any]:
  """Reads features of realistic size from sparse files."""
  count = len(image_store.read_info(work / 'gallery').shards)
  folder = work / 'sparse'
  (folder / image_store.SHARDS).mkdir(parents=True, exist_ok=True)
  layout = ShardOffsets.of({f'{i:05d}': size for i in range(count)})
  marked = np.linspace(0, layout.size - 1, 50).astype(np.int64).tolist()
  marks = collections.defaultdict(list)
  for number, row in enumerate(marked, 1):
    marks[row // size].append((row % size, number))
  for i, name in enumerate(layout.names):
    path, _ = image_store.paths(folder, name)
    array = np.lib.format.open_memmap(path, 'w+', np.float16, (size, DIM))
    for row, number in marks.get(i, ()):
      array[row] = number
  features = Features(folder, layout, DIM, 1.0)
  for number, row in enumerate(marked, 1):
    pair = features[row : row + 2]
    assert (pair[0] == number).all(), f'row {row} is another'
    assert not pair[1:].any() or row + 1 in marked
  return {'rows': layout.size, 'bytes': 2 * layout.size * DIM}


def one(work: pathlib.Path, size: int) -> dict[str, Any]:
  """Measures memory beside the encoder, with features of realistic size."""
  patch_images(size)
  encoding.encode_images = lambda encoder, files, *rest: (
    np.ones((len(files), DIM), np.float16),
    {},
  )
  cut = image_shards.cut(work / 'tars', 1)[:2]
  folder = work / 'one'
  extract.encode(cut, ENCODER, folder, namespace='x', licence='x')
  shutil.rmtree(folder)
  return {'images': len(cut) * size}


def scan(work: pathlib.Path, size: int) -> dict[str, Any]:
  """Measures GB/s of features that a search scans, by number of queries."""
  from jaxretrieval import search

  folder = work / 'scan'
  (folder / image_store.SHARDS).mkdir(parents=True, exist_ok=True)
  layout = ShardOffsets.of({f'{i}': size for i in range(20)})
  rng = np.random.default_rng(0)
  for name in layout.names:
    features = rng.random((size, DIM), np.float32).astype(np.float16)
    np.save(image_store.paths(folder, name)[0], features)
  stored, rates = Features(folder, layout, DIM, 1.0), {}
  for count in (1, 64):
    queries = rng.random((count, DIM), np.float32)
    begin = time.perf_counter()
    search.nearest(stored, queries, 10)
    took = time.perf_counter() - begin
    rates[f'GB/s, {count} queries'] = 2 * layout.size * DIM / took / 1e9
  return rates


PHASES = {
  f.__name__: f for f in (plan, encode, check, index, find, offsets, one, scan)
}


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m benchmarks.gallery_scale')
  parser.add_argument('--work', type=pathlib.Path, required=True)
  parser.add_argument('--shards', type=int, default=10_000)
  parser.add_argument(
    '--size', type=int, default=10_000, help='images per shard'
  )
  parser.add_argument('--phase', help='run only this phase')
  options = parser.parse_args()
  work, size = options.work, options.size
  if options.phase:
    before, begin = status('VmRSS'), time.perf_counter()
    result = PHASES[options.phase](work, size)
    took, grown = time.perf_counter() - begin, status('VmHWM') - before
    print(json.dumps(result | {'seconds': took, 'MB': grown}))
    return
  (work / 'tars').mkdir(parents=True, exist_ok=True)
  for i in range(options.shards):
    (work / 'tars' / f'{i:05d}.tar').touch()
  for phase in PHASES:
    command = [sys.executable, '-m', 'benchmarks.gallery_scale']
    command += [f'--work={work}', f'--size={size}', f'--phase={phase}']
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    print(phase, done.stdout.decode().strip(), flush=True)


if __name__ == '__main__':
  main()
