"""Checkpoints of `reliability_cost`: save, restore, verify, and orbax alone."""

import collections
import contextlib
import functools
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from tqdm import tqdm

from benchmarks.harness.rounds import ROOT
from launch.checkpoints import manifest, storage
from launch.checkpoints.manager import Checkpoints
from launch.mesh import make_mesh
from launch.train.state import TrainState, make_snapshot

SAVE, UNREAD = 'save', 'save, not read back'
SAVE_ORBAX = 'save, orbax alone'
SAVE_DEFAULTS = 'save, orbax alone, compressed'
RESTORE, RESTORE_ORBAX = 'restore', 'restore, orbax alone'
RESTORE_DEFAULTS = 'restore, orbax alone, compressed'
CHECK, VERIFY = 'manifest.check', 'python -m launch.verify'
# The calls of every round, in this order.
CALLS = (
  *(SAVE, UNREAD, SAVE_ORBAX, SAVE_DEFAULTS),
  *(RESTORE, RESTORE_ORBAX, RESTORE_DEFAULTS),
  *(CHECK, VERIFY),
)

# The parts of a save, in order, and their functions.
PARTS = {
  'check that all values are finite': (storage, 'check_finite'),
  'sha256 of the arrays': (storage, 'describe'),
  'write by orbax': (storage, 'write'),
  'read by orbax': (storage, 'read'),
  'compare with memory': (storage, 'check_same'),
  'sha256 of the files, manifest, fsync': (manifest, 'write'),
}
# Parts that the training thread waits for.
SNAPSHOT, GIVEN = 'snapshot on the device', 'save() returns'
CPU = 'CPU seconds of a save'

Seconds = dict[str, list[float]]


class Files(NamedTuple):
  """Measurements of checkpoints.

  Attributes:
    seconds: seconds of every round, by call or part.
    size: bytes of the arrays.
    leaves: number of arrays.
    stored: bytes on disk, ours and orbax's defaults.
  """

  seconds: Seconds
  size: int
  leaves: int
  stored: tuple[int, int]


def measure(rounds: int, megabytes: float) -> Files:
  """Times every call once per round.

  Before each call, pending writes are flushed. Files that are read are in the
  page cache, so the work of reading is compared and not the disk.

  Args:
    rounds: number of rounds, after one untimed round.
    megabytes: approximate size of the arrays.
  """
  state = make_state(megabytes)
  host = jax.device_get(state)
  size = sum(x.nbytes for x in jax.tree.leaves(host))
  seconds: Seconds = collections.defaultdict(list)
  with tempfile.TemporaryDirectory(prefix='reliability_') as folder:
    here = pathlib.Path(folder)
    run, ours, theirs = here / 'run/checkpoints', here / 'ours', here / 'theirs'
    run.parent.mkdir()
    numbers = itertools.count()

    def new() -> pathlib.Path:
      return here / f'new-{next(numbers)}'

    def save_unread() -> None:
      with (
        mock.patch.object(storage, 'read', lambda *_: None),
        mock.patch.object(storage, 'check_same', lambda *_: None),
      ):
        save(new(), state)

    def save_timed() -> None:
      start = time.process_time()
      with parts_timed(seconds):
        save(new(), state, seconds)
      seconds[CPU].append(time.process_time() - start)

    save(run, state)
    storage.write(ours, host)
    write_defaults(theirs, host)
    calls: dict[str, Callable[[], Any]] = {
      SAVE: save_timed,
      UNREAD: save_unread,
      SAVE_ORBAX: lambda: storage.write(new(), host),
      SAVE_DEFAULTS: lambda: write_defaults(new(), host),
      RESTORE: lambda: restore(run, state),
      RESTORE_ORBAX: lambda: storage.read(ours, host),
      RESTORE_DEFAULTS: lambda: read_defaults(theirs, host),
      CHECK: lambda: manifest.check(run / '1'),
      VERIFY: lambda: verify(run.parent),
    }
    turns = [name for _ in range(rounds + 1) for name in CALLS]
    for name in tqdm(turns, desc=f'checkpoints of {megabytes:.0f} MB'):
      os.sync()
      start = time.perf_counter()
      calls[name]()
      seconds[name].append(time.perf_counter() - start)
      for left in here.glob('new-*'):
        shutil.rmtree(left)
    stored = _bytes(run), _bytes(theirs)
  warm = {name: values[1:] for name, values in seconds.items()}
  return Files(warm, size, len(jax.tree.leaves(host)), stored)


def make_state(megabytes: float) -> TrainState:
  """Returns random parameters of 10 layers and Adam's moments, float32."""
  width = max(4, round((megabytes * 1e6 / 4 / 3 / 10) ** 0.5))
  rng = np.random.default_rng(0)

  def layers() -> Any:
    return {
      f'layer{i}': {
        'kernel': rng.standard_normal((width, width), np.float32),
        'bias': rng.standard_normal(width, np.float32),
      }
      for i in range(10)
    }

  zero: Any = np.zeros((), np.int32)
  moments = {'count': zero, 'mu': layers(), 'nu': layers()}
  state: Any = TrainState(zero, zero, layers(), moments, {})
  return jax.tree.map(jnp.array, state)


def save(
  folder: pathlib.Path, state: TrainState, seconds: Seconds | None = None
) -> None:
  """Saves as a training run does, and waits until it is written."""
  snapshot = _snapshot()
  with contextlib.closing(Checkpoints(folder, 1, {'seed': 0})) as checkpoints:
    start = time.perf_counter()
    copy = jax.block_until_ready(snapshot(state))
    made = time.perf_counter()
    checkpoints.save(1, copy)
    given = time.perf_counter()
    checkpoints.wait()
  if seconds is not None:
    seconds[SNAPSHOT].append(made - start)
    seconds[GIVEN].append(given - made)


@functools.cache
def _snapshot() -> Callable[[TrainState], TrainState]:
  return make_snapshot(make_mesh())  # compiled once


@contextlib.contextmanager
def parts_timed(seconds: Seconds) -> Iterator[None]:
  """Records the seconds of `PARTS`, which run one after the other."""
  running = []

  def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
      if running:  # called by another part
        return function(*args)
      running.append(name)
      start = time.perf_counter()
      try:
        return function(*args)
      finally:
        seconds[name].append(time.perf_counter() - start)
        running.clear()

    return call

  with contextlib.ExitStack() as patched:
    for name, (module, function) in PARTS.items():
      own = timed(name, getattr(module, function))
      patched.enter_context(mock.patch.object(module, function, own))
    yield


def restore(folder: pathlib.Path, state: TrainState) -> None:
  """Restores as a training run does, with all sha256 verified."""
  like = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )
  with contextlib.closing(Checkpoints(folder, 1, {'seed': 0})) as checkpoints:
    jax.block_until_ready(checkpoints.restore(like))


def write_defaults(folder: pathlib.Path, host: Any) -> None:
  """Writes a checkpoint with orbax's defaults, which compress."""
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    checkpointer.save(folder, args=ocp.args.PyTreeSave(host))


def read_defaults(folder: pathlib.Path, host: Any) -> Any:
  """Reads such a checkpoint into numpy arrays."""
  how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), host)
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    return checkpointer.restore(
      folder, args=ocp.args.PyTreeRestore(host, restore_args=how)
    )


def verify(workdir: pathlib.Path) -> None:
  """Runs `launch.verify` in a new process."""
  command = [sys.executable, '-m', 'launch.verify', str(workdir)]
  subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _bytes(folder: pathlib.Path) -> int:
  return sum(x.stat().st_size for x in folder.rglob('*') if x.is_file())
