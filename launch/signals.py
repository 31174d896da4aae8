"""Stopping a run politely: SIGTERM and Ctrl-C, at any moment.

Until there is something to save a signal ends the process. From `hold` on the
loop is asked to stop, and saves first. This module imports little, as it has to
be there before jax is.
"""

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds that cleaning up may take, of which compiling knows nothing: Python
# cannot raise an error in it.
_GRACE = 3


T = TypeVar('T')


class _Interrupted(BaseException):
  """A signal came within `Stops.or_none`."""


class Stops:
  """The signals that came to this process."""

  def __init__(self):
    self._received: list[signal.Signals] = []
    self._holding = self._interrupting = False
    self._closed = threading.Event()

  def __call__(self) -> signal.Signals | None:
    """Returns the first signal that came, or None."""
    return self._received[0] if self._received else None

  def hold(self, holding: bool = True) -> None:
    """From now on a signal waits until it is asked for; or no longer."""
    self._holding = holding

  def or_none(self, work: Callable[[], T]) -> T | None:
    """Returns what `work` returns; None, at once, if a signal has come."""
    try:
      self._interrupting = True
      if self._received:
        return None
      return work()
    except _Interrupted:
      return None
    finally:
      self._interrupting = False

  def note(self, number: int, frame: object = None) -> None:
    """The handler of the signals."""
    del frame
    self._received.append(signal.Signals(number))
    name, times = self._received[0].name, len(self._received)
    if not self._holding:
      if times == 1:
        _tell(f'stopped by {name} before the first step; {go_on()}')
      sys.exit(128 + number)
    if times == 1:
      _tell(f'{name}: saving')
    # People who press it a third time mean it; schedulers repeat SIGTERM.
    if self._received.count(signal.SIGINT) > 2:
      _tell(f'stopped by SIGINT without saving; {go_on()}')
      os._exit(128 + signal.SIGINT)
    if self._interrupting:
      self._interrupting = False
      raise _Interrupted

  def watch(self, pipe: int) -> None:
    """Ends the process if it does not end by itself, while nothing is held.

    Runs in a thread of its own: the main one may be in a compiler, where
    Python does not get to call `note`.
    """
    while data := os.read(pipe, 1):
      if data[0] not in SIGNALS or self._holding:
        continue
      if self._closed.wait(_GRACE) or self._holding:
        continue
      if not self._received:
        name = signal.Signals(data[0]).name
        _tell(f'stopped by {name} before the first step; {go_on()}')
      os._exit(128 + data[0])

  def close(self) -> None:
    """Tells `watch` that the process is ending."""
    self._closed.set()


def go_on() -> str:
  """Says how to go on with the run of this process."""
  return f'to go on: {command()}'


def command() -> str:
  """Returns the command line of this process, quoted for a shell."""
  return shlex.join(sys.orig_argv)


def _tell(line: str) -> None:
  # A handler may not print: it may have interrupted printing.
  with contextlib.suppress(OSError):
    os.write(2, f'{line}\n'.encode())


_listening: Stops | None = None


@contextlib.contextmanager
def stop_requests() -> Iterator[Stops]:
  """Listens to SIGTERM and SIGINT, holding none; use in the main thread.

  Within another `stop_requests` it is the same one.
  """
  global _listening
  if _listening is not None:
    try:
      yield _listening
    finally:
      _listening.hold(False)
    return
  stops = _listening = Stops()
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  handlers: dict[int, Callable | int | None] = {
    number: signal.signal(number, stops.note) for number in SIGNALS
  }
  before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  watcher = threading.Thread(target=stops.watch, args=(reading,), daemon=True)
  watcher.start()
  try:
    yield stops
  finally:
    stops.close()
    signal.set_wakeup_fd(before)
    for number, handler in handlers.items():
      signal.signal(number, handler)
    os.close(writing)  # The watcher reads the end of the file.
    watcher.join()
    os.close(reading)
    _listening = None
