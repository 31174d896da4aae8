"""CPU load of other programs while a benchmark runs.

A steady load does not change the control measurements, but it can change which
side is faster: threads that wait for each other after every operation suffer
more than others.
"""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterable


class OtherPrograms:
  """Measures from now on; 0 on systems other than Linux.

  Args:
    pids: the processes of the benchmark, besides this one; their children
      count as part of the benchmark.
  """

  def __init__(self, pids: Iterable[int]):
    self.pids = list(pids)
    self.start = time.perf_counter(), _busy(), _own(self.pids)

  def fraction(self) -> float:
    """Returns the fraction of our cores that other programs used since."""
    began, busy, own = self.start
    seconds = (time.perf_counter() - began) * len(_cores())
    others = (_busy() - busy) - (_own(self.pids) - own)
    return max(0.0, others / seconds)


def _cores() -> set[int]:
  return os.sched_getaffinity(0)


def _busy() -> float:
  """Returns the busy seconds of our cores, including stolen time."""
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
  """Returns CPU seconds of this process, `pids` and their descendants."""
  parents, ticks = {}, {}
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    with contextlib.suppress(OSError):  # the process has ended
      # The name may contain anything, so count fields after it: the 4th is the
      # parent, the 14th to 17th are its time and that of finished children.
      fields = path.read_text().rpartition(')')[2].split()
      pid = int(path.parent.name)
      parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
  family, new = set(), set(pids) & ticks.keys()
  while new:
    family |= new
    new = {pid for pid, parent in parents.items() if parent in new} - family
  theirs = sum(ticks[pid] for pid in family) / os.sysconf('SC_CLK_TCK')
  return sum(os.times()[:2]) + theirs
