"""Sides of a benchmark in processes of their own, which take turns.

Each side is set up and warmed up once; then every round asks each side, one
after the other, for one call (or for one of each of its calls). So all see the
same machine, no side shares its memory, its threads or its compiler with
another, and start-up is not measured.
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

from benchmarks.harness.bystanders import Bystanders
from benchmarks.harness.timing import Times

ROOT = pathlib.Path(__file__).resolve().parents[2]

ENV = {
  # Several sides of jax may share a GPU: none may take all of its memory.
  'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
  # glibc gives large blocks back to the system, which then maps and clears
  # every page anew: a copy of 38 MB takes 8 ms instead of 1.5. All sides, those
  # of torch too, keep what they have freed, as launch/shell/malloc.py does.
  'MALLOC_MMAP_MAX_': '0',
  'MALLOC_TRIM_THRESHOLD_': '100000000000',
  'MALLOC_ARENA_MAX': '1',
}


@dataclasses.dataclass(frozen=True)
class Side:
  """What one process does.

  Attributes:
    target: `module:function`, see `benchmarks.harness.worker`.
    options: its keyword arguments, as JSON can hold them.
    python: the interpreter; default: this one.
    env: variables of the environment to add to `ENV`.
  """

  target: str
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  python: str = sys.executable
  env: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Result:
  """What the sides said.

  Attributes:
    times: seconds of each round, by 'side', or by 'side, call' where a side
      has several calls.
    facts: what each side said of itself before its first call.
    others: the share of the cores that other programs took in the rounds.
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
  """Starts all sides, warms them up, and lets them take turns.

  Args:
    sides: by name.
    rounds: how often each call is timed.
    warm_up: how often it is called before, to compile and to fill caches.
    name: shown while it runs.
    check: called with the facts of all sides before any of them is called;
      raises where the sides do not do the same.

  Raises:
    RuntimeError: a side failed; its own message stands on stderr.
  """
  with contextlib.ExitStack() as closing:
    facts: dict[str, dict[str, Any]] = {}
    calls: list[tuple[str, str, _Worker]] = []
    for side_name, side in sides.items():
      print(f'{name}: {side_name} starts', file=sys.stderr, flush=True)
      worker = closing.enter_context(_started(side_name, side))
      told = json.loads(worker.answer())
      facts[side_name] = told['facts']
      for call in told['calls']:
        shown = f'{side_name}, {call}' if call else side_name
        calls.append((shown, call, worker))
    if check:
      check(facts)
    seconds: dict[str, list[float]] = {shown: [] for shown, *_ in calls}
    turns = [turn for turn in range(-warm_up, rounds) for _ in calls]
    progress = closing.enter_context(tqdm(turns, desc=name))
    workers = {worker for _, _, worker in calls}
    bystanders = None
    for i, turn in enumerate(progress):
      if turn >= 0 and bystanders is None:
        bystanders = Bystanders(worker.process.pid for worker in workers)
      shown, call, worker = calls[i % len(calls)]
      took = worker.take(call)
      if turn >= 0:
        seconds[shown].append(took)
    others = bystanders.share() if bystanders else 0.0
  return Result(Times(seconds), facts, others)


class _Worker:
  """The process of a side, as seen from here."""

  def __init__(self, name: str, process: subprocess.Popen[str]):
    self.name, self.process = name, process

  def take(self, call: str) -> float:
    """Asks for one call; returns its seconds."""
    assert self.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # answer() says why
      self.process.stdin.write(f'{call}\n')
      self.process.stdin.flush()
    return float(self.answer())

  def answer(self) -> str:
    """Reads the next line.

    Raises:
      RuntimeError: there is none.
    """
    assert self.process.stdout is not None
    line = self.process.stdout.readline()
    if not line:
      raise RuntimeError(
        f'side {self.name!r} ended with exit code {self.process.wait()}; its '
        'message stands above'
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
