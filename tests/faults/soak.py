"""Soak test: one run with hundreds of faults, `python -m tests.faults.soak`.

A seeded sequence of faults (kills, signals, damaged and truncated checkpoints,
full and vanished disks, a second trainer, clocks set back) hits one run, which
is restarted each time. It must end with the state and the metrics of a run
without faults; the memory and the open files of its processes must not grow.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np

from launch.checkpoints import manifest, storage
from tests.faults import trainer
from tests.faults.memory import left_per_call

# Training steps per fault, during which other processes start.
STEPS_A_FAULT = 400
STEPS_A_SAVE = 25
BATCH, EXAMPLES = 16, 100


class Sample(NamedTuple):
  """The memory of a process in MB, and the number of its open files."""

  megabytes: float
  files: int


class Soak:
  """A run, and the faults that it has had."""

  def __init__(self, folder: pathlib.Path, faults: int, rng: random.Random):
    self.workdir = folder / 'run'
    self.elsewhere = folder / 'elsewhere'
    self.rng = rng
    self.total = faults * STEPS_A_FAULT
    self.fields = {
      'epochs': self.total * BATCH / EXAMPLES,
      'steps_per_dispatch': 4,
      'log_every': 20,
      'eval_every': 200.0,
      'checkpoint_every': STEPS_A_SAVE * BATCH / EXAMPLES,
      'keep_checkpoints': 3,
      'max_save_failures': 10_000,
    }
    self.process = None
    self.done = collections.Counter()
    self.samples: list[Sample] = []
    self.repeated = 0

  def resume(self) -> None:
    """Starts the trainer, if it is not running."""
    if self.process is None:
      reached = max(
        (r['step'] for r in trainer.records(self.workdir)), default=0
      )
      self.repeated += max(0, reached - self.step())
      self.process = trainer.start(self.workdir, self.fields)

  def step(self) -> int:
    """Returns the step of the newest checkpoint."""
    return max(manifest.steps(self.workdir / 'checkpoints'), default=0)

  def wait_past(self, step: int) -> bool:
    """Waits for a checkpoint past `step`; False if the run ends before."""
    assert self.process is not None
    while self.process.poll() is None:
      with contextlib.suppress(OSError):
        if self.step() > step:
          return True
      time.sleep(0.005)
    return False

  def end(self, number: int) -> None:
    """Ends the trainer by a signal, and checks its exit code."""
    assert self.process is not None
    self.sample()
    self.process.send_signal(number)
    if number != signal.SIGKILL and self.rng.random() < 0.3:
      time.sleep(self.rng.random() / 50)
      self.process.send_signal(number)
    ended = trainer.wait(self.process)
    self.process = None
    # The run may have finished in the meantime.
    allowed = {128 + number, 0} if self.step() == self.total else {128 + number}
    assert ended.code in allowed, f'exit code {ended.code}: {ended.err}'

  def sample(self) -> None:
    """Records memory and open files of the trainer."""
    assert self.process is not None
    proc = pathlib.Path('/proc') / str(self.process.pid)
    with contextlib.suppress(OSError, StopIteration, ValueError):
      lines = (proc / 'status').read_text().splitlines()
      resident = next(x for x in lines if x.startswith('VmRSS'))
      files = len(list((proc / 'fd').iterdir()))
      self.samples.append(Sample(int(resident.split()[1]) / 1024, files))

  def watch(self) -> None:
    """Samples the trainer until it ends."""
    assert self.process is not None
    while self.process.poll() is None:
      self.sample()
      time.sleep(0.2)

  def kill(self):
    self.end(signal.SIGKILL)

  def terminate(self):
    self.end(signal.SIGTERM)

  def interrupt(self):
    self.end(signal.SIGINT)

  def flip(self):
    self.kill()
    self.damage(self.flip_file)

  def cut(self):
    self.kill()
    self.damage(self.cut_file)

  def damage(self, how) -> None:
    found = manifest.steps(self.workdir / 'checkpoints')
    if len(found) > 1:  # without any checkpoint left the run would end
      newest = self.workdir / 'checkpoints' / str(found[-1])
      files = sorted(p for p in newest.rglob('*') if p.is_file())
      how(self.rng.choice(files))

  def flip_file(self, path):
    data = bytearray(path.read_bytes())
    data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
    path.write_bytes(data)

  def cut_file(self, path):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * self.rng.choice((0, 0.5, 0.99)))])

  def vanish(self):
    """Moves the workdir away for a while; the trainer continues."""
    with contextlib.suppress(OSError):
      self.workdir.rename(self.elsewhere)
      time.sleep(self.rng.uniform(0.05, 0.3))
      # Until a save in progress has removed what it created.
      for _ in range(1000):
        try:
          self.elsewhere.rename(self.workdir)
          return
        except OSError:
          time.sleep(0.005)
      left = list(self.workdir.rglob('*'))
      raise AssertionError(f'{self.workdir} was created again: {left}')

  def forbid(self):
    """Blocks checkpoints for a while by a file in place of their folder."""
    folder = self.workdir / 'checkpoints'
    away = self.workdir / 'away'
    folder.rename(away)
    folder.write_text('in the way')
    time.sleep(self.rng.uniform(0.05, 0.3))
    folder.unlink()
    away.rename(folder)

  def second(self):
    """Starts another trainer in the same workdir."""
    other = trainer.train(self.workdir, self.fields)
    if self.process is not None and self.process.poll() is None:
      trainer.refused(other, 9, str(self.workdir))

  def age(self):
    """Makes the newest checkpoint look older than all others."""
    self.kill()
    for step in manifest.steps(self.workdir / 'checkpoints'):
      past = time.time() - 3600 - step
      path = self.workdir / 'checkpoints' / str(step)
      os.utime(path, (past, past))

  def run(self, faults: int) -> None:
    """Applies all faults, and lets the run finish."""
    kinds = [
      self.kill,
      self.terminate,
      self.interrupt,
      self.flip,
      self.cut,
      self.vanish,
      self.forbid,
      self.second,
      self.age,
    ]
    for number in range(faults):
      kind = kinds[number % len(kinds)]
      self.resume()
      if not self.wait_past(self.step()):
        assert self.process is not None
        ended = trainer.wait(self.process)
        raise AssertionError(f'the run ended by itself: {ended}')
      time.sleep(self.rng.uniform(0, 0.05))
      kind()
      self.done[kind.__name__] += 1
      if number % 10 == 9:
        print(
          f'{number + 1} of {faults} faults, step {self.step()} of '
          f'{self.total}',
          file=sys.stderr,
          flush=True,
        )
    self.resume()
    assert self.process is not None
    ended = trainer.wait(self.process, 600)
    assert ended.code == 0, ended.err


def lost_in_tensorstore(folder: pathlib.Path, workdir: pathlib.Path) -> float:
  """Returns the MB that tensorstore leaks when it saves the state of a run."""
  _, _, state = storage.read_newest(workdir / 'checkpoints')

  def save(number):
    path = folder / f'lost-{number}'
    storage.write(path, state)
    storage.read(path, state)
    shutil.rmtree(path)

  return left_per_call(save, 50)[1] / 2**20


def middle(samples: list[Sample]) -> Sample:
  """Returns the median memory and the fewest open files (a save opens some)."""
  array = np.array(samples)
  return Sample(np.median(array[:, 0]), np.min(array[:, 1]))


def main() -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser(prog='python -m tests.faults.soak')
  parser.add_argument('--faults', type=int, default=200)
  parser.add_argument('--seed', type=int, default=0)
  options = parser.parse_args()
  print(f'seed {options.seed}, {options.faults} faults', file=sys.stderr)
  begun = time.monotonic()
  with tempfile.TemporaryDirectory() as folder:
    rng = random.Random(options.seed)
    whole = Soak(pathlib.Path(folder, 'whole'), options.faults, rng)
    whole.resume()
    whole.watch()
    assert whole.process is not None
    ended = trainer.wait(whole.process)
    assert ended.code == 0, ended.err
    print(
      f'without faults: {time.monotonic() - begun:.0f} s for '
      f'{whole.total} steps',
      file=sys.stderr,
    )
    soak = Soak(pathlib.Path(folder, 'soak'), options.faults, rng)
    soak.run(options.faults)
    trainer.assert_same_run(soak.workdir, whole.workdir)
    step, leaves = trainer.fingerprints(soak.workdir)
    lost = lost_in_tensorstore(pathlib.Path(folder), whole.workdir)
  state = hashlib.sha256(json.dumps(leaves, sort_keys=True).encode())
  # The second half of an uninterrupted process, compared with its first.
  grown = [x for x in whole.samples if x.files > 8][10:]
  half = len(grown) // 2
  quarter = len(soak.samples) // 4
  # Between the middles of the two halves.
  lost *= whole.total / STEPS_A_SAVE / 2
  report = {
    'seed': options.seed,
    'faults': dict(sorted(soak.done.items())),
    'step': step,
    'state_sha256': state.hexdigest(),
    'goodput': round(soak.total / (soak.total + soak.repeated), 4),
    'without_faults': [middle(grown[:half]), middle(grown[half:])],
    'lost_in_tensorstore': round(lost, 2),
    'with_faults': [
      middle(soak.samples[:quarter]),
      middle(soak.samples[-quarter:]),
    ],
    'seconds': round(time.monotonic() - begun),
  }
  print(json.dumps(report, indent=2))
  for name, known in (('without_faults', lost), ('with_faults', 0)):
    before, after = report[name]
    assert after.files <= before.files, f'{name}: open files grow'
    more = after.megabytes - before.megabytes - known
    assert more <= 0.02 * before.megabytes, f'{name}: memory grows by {more} MB'


if __name__ == '__main__':
  main()
