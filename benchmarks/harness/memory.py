"""Peak memory of the first call of a side, measured in its own process.

python -m benchmarks.harness.memory MODULE:FUNCTION '{"option": 1}' CALL
"""

import importlib
import json
import pathlib
import subprocess
import sys
from typing import Any

from benchmarks.harness.rounds import ROOT, Side


def grown(side: Side, call: str) -> float:
  """Returns by how many MB a new process grows in the first such call."""
  command = [side.python, '-m', 'benchmarks.harness.memory', side.target]
  command += [json.dumps(dict(side.options)), call]
  done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE)
  return json.loads(done.stdout)


def status(name: str) -> float:
  """Returns MB of this process, such as VmHWM.

  Unlike `ru_maxrss`, it does not start with the value of the parent.
  """
  status = pathlib.Path('/proc/self/status').read_text()
  (line,) = (x for x in status.splitlines() if x.startswith(f'{name}:'))
  return int(line.split()[1]) * 1024 / 1e6


def main() -> None:
  """Runs the command."""
  target, options, name = sys.argv[1:]
  module, _, function = target.partition(':')
  make: Any = getattr(importlib.import_module(module), function)
  calls, _ = make(**json.loads(options))
  before = status('VmRSS')
  calls[name]()
  print(json.dumps(status('VmHWM') - before))


if __name__ == '__main__':
  main()
