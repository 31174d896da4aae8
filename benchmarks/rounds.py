"""Sides of a benchmark in processes of their own, which take turns.

Each side is set up and warmed up once; then every round asks each side, one
after the other, for one call. So both see the same machine, no side shares its
memory, its threads or its compiler with another, and start-up is not measured.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from tqdm import tqdm

from benchmarks.timing import Times

ROOT = pathlib.Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Side:
  """What one process does.

  Attributes:
    target: `module:function`, see `benchmarks.worker`.
    options: its keyword arguments, as JSON can hold them.
    python: the interpreter; default: this one.
    env: variables of the environment to add.
  """

  target: str
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  python: str = sys.executable
  env: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Result:
  """What the sides said.

  Attributes:
    times: seconds of each round by side.
    facts: what each side said of itself before its first call.
  """

  times: Times
  facts: dict[str, dict[str, Any]]


def alternate(
  sides: Mapping[str, Side], *, rounds: int, warm_up: int = 2, name: str = ''
) -> Result:
  """Starts all sides, warms them up, and lets them take turns.

  Args:
    sides: by name.
    rounds: calls of each side that are timed.
    warm_up: calls of each side before, which compile and fill caches.
    name: shown while it runs.

  Raises:
    RuntimeError: a side failed; its own message stands on stderr.
  """
  with contextlib.ExitStack() as closing:
    workers, facts = {}, {}
    progress = closing.enter_context(
      tqdm(total=len(sides) * (1 + warm_up + rounds), desc=name)
    )
    for side_name, side in sides.items():
      worker = closing.enter_context(_worker(side))
      facts[side_name] = json.loads(_answer(worker, side))
      workers[side_name] = worker
      progress.update()
    seconds: dict[str, list[float]] = {side_name: [] for side_name in sides}
    for number in range(-warm_up, rounds):
      for side_name, worker in workers.items():
        assert worker.stdin is not None
        worker.stdin.write('go\n')
        worker.stdin.flush()
        took = float(_answer(worker, sides[side_name]))
        if number >= 0:
          seconds[side_name].append(took)
        progress.update()
  return Result(Times(seconds), facts)


@contextlib.contextmanager
def _worker(side: Side) -> Iterator[subprocess.Popen[str]]:
  # Several sides of jax may share a GPU: none may take all of its memory.
  env = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'} | dict(side.env)
  process = subprocess.Popen(
    [
      side.python,
      '-m',
      'benchmarks.worker',
      side.target,
      json.dumps(dict(side.options)),
    ],
    cwd=ROOT,
    env=os.environ | env,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  try:
    yield process
  finally:
    process.kill()
    process.communicate()


def _answer(worker: subprocess.Popen[str], side: Side) -> str:
  assert worker.stdout is not None
  line = worker.stdout.readline()
  if not line:
    raise RuntimeError(
      f'{side.target} with {dict(side.options)} ended with exit code '
      f'{worker.wait()}; its message stands above'
    )
  return line
