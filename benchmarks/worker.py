"""One side of a benchmark in a process of its own; `benchmarks.rounds` asks.

  python -m benchmarks.worker MODULE:FUNCTION '{"option": 1}'

`FUNCTION(**options)` returns `(call, facts)`: `call()` does one round of work
and waits for it, `facts` is a dict for the report. The facts are printed, and
then, for every line read, the seconds of one call. What the side itself prints
goes to stderr.
"""

import importlib
import json
import os
import sys
import time


def main() -> None:
  """Runs the command."""
  answers = os.fdopen(os.dup(1), 'w', buffering=1)
  os.dup2(2, 1)
  target, options = sys.argv[1:]
  module, _, function = target.partition(':')
  make = getattr(importlib.import_module(module), function)
  call, facts = make(**json.loads(options))
  answers.write(json.dumps(facts) + '\n')
  for _ in sys.stdin:
    start = time.perf_counter()
    call()
    answers.write(f'{time.perf_counter() - start!r}\n')


if __name__ == '__main__':
  main()
