"""How far a trainer has come, in memory that its guard can read.

The trainer may hang, be stopped or be gone: what it wrote stays.
"""

import mmap
import os
import struct
import tempfile
from typing import NamedTuple

# Names the file descriptor of the memory to a trainer that has a guard.
_VARIABLE = 'LAUNCH_PULSE'
_FORMAT = struct.Struct('<qq?')


class Mark(NamedTuple):
  """A place in the course of a run that all processes pass in one order.

  Attributes:
    count: how many were passed, this one too.
    step: the number of steps done.
    calling: whether what comes next is a call of the device, and nothing else.
  """

  count: int = 0
  step: int = 0
  calling: bool = False


class SharedProgress:
  """The last mark of a trainer."""

  def __init__(self, descriptor: int = -1):
    """Opens the memory behind a file descriptor; -1: of this process alone."""
    self._memory = mmap.mmap(descriptor, _FORMAT.size)

  def mark(self, step: int, *, calling: bool = False) -> None:
    """The trainer passes a place."""
    count = self.read().count + 1
    self._memory[:] = _FORMAT.pack(count, step, calling)

  def read(self) -> Mark:
    """Returns the last mark."""
    return Mark(*_FORMAT.unpack(self._memory[:]))


def open_shared_progress() -> SharedProgress:
  """Returns the pulse that the guard of this process reads, if it has one."""
  return SharedProgress(int(os.environ.get(_VARIABLE, -1)))


def has_watchdog() -> bool:
  """Says whether this process is a trainer that a guard has started."""
  return _VARIABLE in os.environ


def shared() -> tuple[int, dict[str, str]]:
  """Makes memory for a trainer to be started.

  Returns:
    A file descriptor to be passed on, and the variables that say so.
  """
  with tempfile.TemporaryFile() as file:
    file.truncate(_FORMAT.size)
    descriptor = os.dup(file.fileno())
  return descriptor, {_VARIABLE: str(descriptor)}
