"""Worker: runs one side of a benchmark in its own process.

  python -m benchmarks.harness.worker MODULE:FUNCTION '{"option": 1}'

`FUNCTION(**options)` returns `(call, facts)`: `call()` does one round of work
and waits for it; `facts` is a dict for the report. Instead of one call there
may be a dict of calls by name, if they can share a process. The worker prints
the names and the facts. Then, for every name that it reads, it prints the
seconds of that call (a single call has the name ''). Output of the side itself
goes to stderr.

Neither jax nor torch is imported here: a side imports what it measures.
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
