"""One side of a benchmark, in a process of its own.

  python -m benchmarks.harness.worker MODULE:FUNCTION '{"option": 1}'

`FUNCTION(**options)` returns `(call, facts)`: `call()` does one round of work
and waits for it, `facts` is a dict for the report. In place of one call there
may be a dict of several by name, for what can share a process. The names and
the facts are printed, and then, for every name read, the seconds of that call
(one call alone has the name ''). What the side itself prints goes to stderr.

Neither jax nor torch is imported here: a side brings what it measures.
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
  calls, facts = make(**json.loads(options))
  if callable(calls):
    calls = {'': calls}
  answers.write(json.dumps({'calls': list(calls), 'facts': facts}) + '\n')
  for line in sys.stdin:
    call = calls[line.rstrip('\n')]
    start = time.perf_counter()
    call()
    answers.write(f'{time.perf_counter() - start!r}\n')


if __name__ == '__main__':
  main()
