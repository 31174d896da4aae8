"""Rounds of a benchmark: sides in separate processes that take turns.

A side is one of the implementations that are compared. Each is set up and
warmed up once. Then every round times one call of each side (or one of each of
its calls), one after the other. So all sides see the same machine, no side
shares its memory, threads or compiler with another, and start-up is not
measured.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tqdm import tqdm

from benchmarks.harness.other_programs import OtherPrograms
from benchmarks.harness.timing import Times

ROOT = pathlib.Path(__file__).resolve().parents[2]

ENV = {
  # Several jax sides may share a GPU: none may reserve all of its memory.
  'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
  # glibc returns large blocks to the system, which must then map and clear
  # every page again: a copy of 38 MB takes 8 ms instead of 1.5. All sides,
  # torch included, keep freed memory, as launch/shell/malloc.py does.
  'MALLOC_MMAP_MAX_': '0',
  'MALLOC_TRIM_THRESHOLD_': '100000000000',
  'MALLOC_ARENA_MAX': '1',
}


@dataclasses.dataclass(frozen=True)
class Side:
  """One side: what its process runs.

  Attributes:
    target: `module:function`, see `benchmarks.harness.worker`.
    options: its keyword arguments, which must be JSON values.
    python: the interpreter; default: this one.
    env: environment variables in addition to `ENV`.
  """

  target: str
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  python: str = sys.executable
  env: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Result:
  """Times of all rounds.

  Attributes:
    times: seconds of each round, by 'side', or by 'side, call' where a side
      has several calls.
    facts: the facts that each side reported before its first call.
    others: the fraction of the cores that other programs used.
  """

  times: Times
  facts: dict[str, dict[str, Any]]
  others: float = 0.0


def alternate(
  sides: Mapping[str, Side],
  *,
  rounds: int,
  warm_up: int = 2,
  name: str = '',
  check: Callable[[dict[str, dict[str, Any]]], Any] | None = None,
) -> Result:
  """Starts all sides, warms them up, and times them in turn.

  Args:
    sides: the sides by name.
    rounds: how often each call is timed.
    warm_up: untimed calls before that, to compile and to fill caches.
    name: title of the progress bar.
    check: called with the facts of all sides before the first call; raises an
      error if the sides do not compute the same.

  Raises:
    RuntimeError: a side failed; its own message is on stderr.
  """
  with contextlib.ExitStack() as closing:
    facts: dict[str, dict[str, Any]] = {}
    calls: list[tuple[str, str, _Worker]] = []
    for side_name, side in sides.items():
      print(f'{name}: {side_name} starts', file=sys.stderr, flush=True)
      worker = closing.enter_context(_started(side_name, side))
      header = json.loads(worker.answer())
      facts[side_name] = header['facts']
      for call in header['calls']:
        shown = f'{side_name}, {call}' if call else side_name
        calls.append((shown, call, worker))
    if check:
      check(facts)
    seconds: dict[str, list[float]] = {shown: [] for shown, *_ in calls}
    turns = [turn for turn in range(-warm_up, rounds) for _ in calls]
    progress = closing.enter_context(tqdm(turns, desc=name))
    workers = {worker for _, _, worker in calls}
    other_programs = None
    for i, turn in enumerate(progress):
      if turn >= 0 and other_programs is None:
        other_programs = OtherPrograms(w.process.pid for w in workers)
      shown, call, worker = calls[i % len(calls)]
      took = worker.take(call)
      if turn >= 0:
        seconds[shown].append(took)
    others = other_programs.fraction() if other_programs else 0.0
  return Result(Times(seconds), facts, others)


class _Worker:
  """The process of a side."""

  def __init__(self, name: str, process: subprocess.Popen[str]):
    self.name, self.process = name, process

  def take(self, call: str) -> float:
    """Requests one call; returns its seconds."""
    assert self.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # answer() reports why
      self.process.stdin.write(f'{call}\n')
      self.process.stdin.flush()
    return float(self.answer())

  def answer(self) -> str:
    """Returns the next line.

    Raises:
      RuntimeError: the process has ended.
    """
    assert self.process.stdout is not None
    line = self.process.stdout.readline()
    if not line:
      raise RuntimeError(
        f'side {self.name!r} ended with exit code {self.process.wait()}; see '
        'its message above'
      )
    return line


@contextlib.contextmanager
def _started(name: str, side: Side) -> Iterator[_Worker]:
  options = json.dumps(dict(side.options))
  process = subprocess.Popen(
    [side.python, '-m', 'benchmarks.harness.worker', side.target, options],
    cwd=ROOT,
    env=os.environ | ENV | dict(side.env),
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  try:
    yield _Worker(name, process)
  finally:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
      assert pipe is not None
      with contextlib.suppress(BrokenPipeError):
        pipe.close()
