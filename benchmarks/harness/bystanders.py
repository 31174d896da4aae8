"""What other programs take of the cores while a benchmark runs.

A steady load leaves the control steady, and yet decides who is faster: threads
that wait for each other after every operation suffer more than others.
"""

import contextlib
import os
import pathlib
import time
from collections.abc import Iterable


class Bystanders:
  """Begins to count; Linux alone.

  Args:
    pids: the processes of the benchmark, beside this one; what they start
      counts as theirs.
  """

  def __init__(self, pids: Iterable[int]):
    self.pids = list(pids)
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
  """Seconds of this process, and of these and all that they have started."""
  parents, ticks = {}, {}
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    with contextlib.suppress(OSError):  # it has ended
      # After the name, which may hold anything: the 4th field is the parent,
      # the 14th to 17th are its own time and that of children that ended.
      fields = path.read_text().rpartition(')')[2].split()
      pid = int(path.parent.name)
      parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
  found, new = set(), set(pids) & ticks.keys()
  while new:
    found |= new
    new = {pid for pid, parent in parents.items() if parent in new} - found
  theirs = sum(ticks[pid] for pid in found) / os.sysconf('SC_CLK_TCK')
  return sum(os.times()[:2]) + theirs
