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
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

# SIGHUP is a terminal that is gone; nohup has it ignored. (A shell has SIGINT
# ignored of what it starts in the background; who sends it means it.)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Seconds until Python surely would have called a handler, were it not in a
# compiler.
_GRACE = 3


T = TypeVar('T')


class _Interrupted(BaseException):
  """A signal came within `Stops.or_none`."""


class StopSignals:
  """The signals that came to this process."""

  def __init__(self, at_once: bool):
    self._at_once = at_once
    self._received: list[signal.Signals] = []
    self._holding = self._interrupting = self._silent = False
    self._ignoring = False
    self._closed = threading.Event()

  def __call__(self) -> signal.Signals | None:
    """Returns the first signal that came, or None."""
    return self._received[0] if self._received else None

  def hold(self, holding: bool = True, *, silent: bool = False) -> None:
    """From now on a signal waits until it is asked for; or no longer."""
    self._holding, self._silent = holding, silent

  def ignore(self) -> None:
    """From now on signals change nothing: the process is about to end.

    A second one, on its way to all processes of a run, would end this one while
    another waits to leave together with it.
    """
    self._ignoring = True

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
    if self._ignoring:
      return
    self._received.append(signal.Signals(number))
    name, times = self._received[0].name, len(self._received)
    if not self._holding:
      if self._at_once:
        _leave(number, 'with nothing to save')
      sys.exit(128 + number)
    if times == 1 and not self._silent:
      _tell(f'{name}: saving; two more Ctrl-C leave without')
    # People who press it a third time mean it; schedulers repeat SIGTERM.
    if self._received.count(signal.SIGINT) > 2:
      _leave(number, 'without saving')
    if self._interrupting:
      self._interrupting = False
      raise _Interrupted

  def watch(self, pipe: int) -> None:
    """Ends the process if it does not end by itself, while nothing is held.

    Runs in a thread of its own: the main one may be in a compiler, where
    Python does not get to call `note`.
    """
    while data := os.read(pipe, 1):
      if data[0] not in SIGNALS or self._is_heard():
        continue
      if self._closed.wait(_GRACE) or self._is_heard():
        continue
      _leave(data[0], 'with nothing to save')

  def _is_heard(self) -> bool:
    """Whether a signal is waited for, or for nothing any more."""
    return self._holding or self._ignoring

  def restore(self, handlers: Mapping[int, Any]) -> None:
    """Gives signals back to those who had them, unless a program is over."""
    over = self._ignoring and self._at_once
    for number, handler in handlers.items():
      signal.signal(number, signal.SIG_IGN if over else handler)

  def close(self) -> None:
    """Tells `watch` that the process is ending."""
    self._closed.set()


def resume_hint() -> str:
  """Says how to go on with the run of this process."""
  return f'to go on: {command()}'


def command() -> str:
  """Returns the command line of this process, quoted for a shell."""
  return shlex.join(sys.orig_argv)


def _leave(number: int, how: str) -> NoReturn:
  name = signal.Signals(number).name
  _tell(f'stopped by {name} {how}; {resume_hint()}')
  os._exit(128 + number)


def _tell(line: str) -> None:
  # A handler may not print: it may have interrupted printing.
  with contextlib.suppress(OSError):
    os.write(2, f'{line}\n'.encode())


_listening: StopSignals | None = None


@contextlib.contextmanager
def stop_requests(*, at_once: bool = False) -> Iterator[StopSignals]:
  """Listens to SIGTERM, SIGINT and SIGHUP, holding none; in the main thread.

  Within another `stop_requests` it is the same one.

  Args:
    at_once: whether a signal that is not held ends the process then and there,
      which is for programs; else it raises SystemExit, which is lost where a
      callback of C happens to run.
  """
  global _listening
  if _listening is not None:
    try:
      yield _listening
    finally:
      _listening.hold(False)
    return
  stops = _listening = StopSignals(at_once)
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  handlers: dict[int, Callable | int | None] = {
    number: signal.signal(number, stops.note)
    for number in SIGNALS
    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
  }
  before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  watcher = threading.Thread(target=stops.watch, args=(reading,), daemon=True)
  if at_once:
    watcher.start()
  try:
    yield stops
  finally:
    stops.close()
    signal.set_wakeup_fd(before)
    stops.restore(handlers)
    os.close(writing)  # The watcher reads the end of the file.
    if at_once:
      watcher.join()
    os.close(reading)
    _listening = None
