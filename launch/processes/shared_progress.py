"""Shared progress: memory in which a trainer reports to its watchdog.

What the trainer wrote remains readable when it hangs, is stopped or has died.
"""

import mmap
import os
import struct
import tempfile
from typing import NamedTuple

# Names the file descriptor of the memory to a trainer that has a watchdog.
_VARIABLE = 'LAUNCH_PROGRESS_FD'
_FORMAT = struct.Struct('<qq?')


class Mark(NamedTuple):
  """A point in the program that all processes of a run pass in the same order.

  Attributes:
    count: the number of points passed, including this one.
    step: the number of training steps done.
    dispatching: whether the next thing that happens is a dispatch.
  """

  count: int = 0
  step: int = 0
  dispatching: bool = False


class SharedProgress:
  """The last mark of a trainer."""

  def __init__(self, descriptor: int = -1):
    """Maps the memory of a file descriptor; -1: private to this process."""
    self._memory = mmap.mmap(descriptor, _FORMAT.size)

  def mark(self, step: int, *, dispatching: bool = False) -> None:
    """Records that the trainer passes a point; see `Mark`."""
    count = self.read().count + 1
    self._memory[:] = _FORMAT.pack(count, step, dispatching)

  def read(self) -> Mark:
    """Returns the last mark."""
    return Mark(*_FORMAT.unpack(self._memory[:]))


def open_shared_progress() -> SharedProgress:
  """Returns the progress that the watchdog of this process reads.

  It is private to this process if there is no watchdog.
  """
  return SharedProgress(int(os.environ.get(_VARIABLE, -1)))


def has_watchdog() -> bool:
  """Returns whether this process is a trainer that a watchdog started."""
  return _VARIABLE in os.environ


def create_memory() -> tuple[int, dict[str, str]]:
  """Creates the memory for a trainer that is about to be started.

  Returns:
    A file descriptor for the trainer to inherit, and the environment variables
    that name it.
  """
  with tempfile.TemporaryFile() as file:
    file.truncate(_FORMAT.size)
    descriptor = os.dup(file.fileno())
  return descriptor, {_VARIABLE: str(descriptor)}
