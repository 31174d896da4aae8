"""What other programs take of the cores while a benchmark runs.

A steady load leaves the control steady, and yet decides who is faster: threads
that wait for each other after every operation suffer more than others.
"""

import os
import pathlib
import time
from collections.abc import Iterable


class Bystanders:
  """Begins to count; Linux alone.

  Args:
    pids: the processes of the benchmark, beside this one.
  """

  def __init__(self, pids: Iterable[int]):
    self.pids = [os.getpid(), *pids]
    self.start = time.perf_counter(), _busy(), _own(self.pids)

  def share(self) -> float:
    """The share of our cores that others have had since; 0 where unknown."""
    began, busy, own = self.start
    seconds = (time.perf_counter() - began) * len(_cores())
    others = (_busy() - busy) - (_own(self.pids) - own)
    return max(0.0, others / seconds)


def _cores() -> set[int]:
  return os.sched_getaffinity(0)


def _busy() -> float:
  """Seconds that our cores have worked, or were withheld from this machine."""
  path = pathlib.Path('/proc/stat')
  if not path.exists():
    return 0.0
  names = {f'cpu{core}' for core in _cores()}
  ticks = 0
  for line in path.read_text().splitlines():
    name, *fields = line.split()
    if name in names:
      # user, nice, system, idle, iowait, irq, softirq, steal
      ticks += sum(map(int, fields[:3] + fields[5:8]))
  return ticks / os.sysconf('SC_CLK_TCK')


def _own(pids: list[int]) -> float:
  ticks = 0
  for pid in pids:
    path = pathlib.Path(f'/proc/{pid}/stat')
    if path.exists():
      # After the name, which may hold anything: the 12th and 13th field.
      fields = path.read_text().rpartition(')')[2].split()
      ticks += int(fields[11]) + int(fields[12])
  return ticks / os.sysconf('SC_CLK_TCK')
