"""Signal handling: SIGTERM, SIGINT and SIGHUP stop a run at any moment.

Before there is something to save, a signal ends the process. After `defer` it
is recorded, and the training loop saves a checkpoint first. This module imports
little, because it must be loaded before jax.
"""

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

# SIGHUP means that the terminal is gone; nohup ignores it. (A shell ignores
# SIGINT in background jobs, but whoever sends it explicitly means it.)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Seconds after which Python would have run a handler, unless it is inside
# compiled code such as XLA's compiler.
_GRACE = 3


T = TypeVar('T')


class _Interrupted(BaseException):
  """A signal arrived within `StopSignals.or_none`."""


class StopSignals:
  """The stop signals that this process has received."""

  def __init__(self, at_once: bool):
    self._at_once = at_once
    self._received: list[signal.Signals] = []
    self._deferred = self._interruptible = self._silent = False
    self._ignored = False
    self._closed = threading.Event()

  def __call__(self) -> signal.Signals | None:
    """Returns the first signal that was received, or None."""
    return self._received[0] if self._received else None

  def defer(self, deferred: bool = True, *, silent: bool = False) -> None:
    """Sets whether signals are only recorded instead of ending the process.

    Args:
      deferred: whether to record only.
      silent: do not print a line about the first signal.
    """
    self._deferred, self._silent = deferred, silent

  # The former name, for callers that have not been renamed yet.

  def ignore(self) -> None:
    """Ignores signals from now on, because the process is about to end.

    A second signal, sent to all processes of a run, would otherwise end this
    one while the others wait to shut down together with it.
    """
    self._ignored = True

  def or_none(self, work: Callable[[], T]) -> T | None:
    """Returns the result of `work`, or None as soon as a signal arrives."""
    try:
      self._interruptible = True
      if self._received:
        return None
      return work()
    except _Interrupted:
      return None
    finally:
      self._interruptible = False

  def handle(self, number: int, frame: object = None) -> None:
    """Handles a signal (the handler that is registered with Python)."""
    del frame
    if self._ignored:
      return
    self._received.append(signal.Signals(number))
    name, count = self._received[0].name, len(self._received)
    if not self._deferred:
      if self._at_once:
        _exit_now(number, 'with nothing to save')
      sys.exit(128 + number)
    if count == 1 and not self._silent:
      _write_line(
        f'{name}: saving; press Ctrl-C twice more to stop without saving'
      )
    # A third Ctrl-C is deliberate; schedulers repeat SIGTERM.
    if self._received.count(signal.SIGINT) > 2:
      _exit_now(number, 'without saving')
    if self._interruptible:
      self._interruptible = False
      raise _Interrupted

  def watch(self, pipe: int) -> None:
    """Ends the process if a signal that is not deferred has not ended it.

    Runs in a thread: the main thread may be in compiled code, where Python
    cannot call `handle`.

    Args:
      pipe: descriptor from which the numbers of signals are read.
    """
    while data := os.read(pipe, 1):
      if data[0] not in SIGNALS or self._is_handled():
        continue
      if self._closed.wait(_GRACE) or self._is_handled():
        continue
      _exit_now(data[0], 'with nothing to save')

  def _is_handled(self) -> bool:
    return self._deferred or self._ignored

  def restore(self, handlers: Mapping[int, Any]) -> None:
    """Restores the handlers; ignores signals where a program is ending."""
    ending = self._ignored and self._at_once
    for number, handler in handlers.items():
      signal.signal(number, signal.SIG_IGN if ending else handler)

  def close(self) -> None:
    """Tells `watch` that the process is ending."""
    self._closed.set()


def resume_hint() -> str:
  """Returns the command that resumes the run of this process."""
  return f'to resume: {command()}'


def command() -> str:
  """Returns the command line of this process, quoted for a shell."""
  return shlex.join(sys.orig_argv)


def _exit_now(number: int, how: str) -> NoReturn:
  name = signal.Signals(number).name
  _write_line(f'stopped by {name} {how}; {resume_hint()}')
  os._exit(128 + number)


def _write_line(line: str) -> None:
  # A handler must not use print: it may have interrupted a call of print.
  with contextlib.suppress(OSError):
    os.write(2, f'{line}\n'.encode())


_current: StopSignals | None = None


@contextlib.contextmanager
def stop_requests(*, at_once: bool = False) -> Iterator[StopSignals]:
  """Handles SIGTERM, SIGINT and SIGHUP in the block; in the main thread.

  Signals are not deferred at first. A nested call yields the same object.

  Args:
    at_once: whether a signal that is not deferred ends the process immediately,
      as programs do; otherwise it raises SystemExit, which is lost if a
      callback from C is running.
  """
  global _current
  if _current is not None:
    try:
      yield _current
    finally:
      _current.defer(False)
    return
  stop = _current = StopSignals(at_once)
  reading, writing = os.pipe()
  os.set_blocking(writing, False)
  handlers: dict[int, Callable | int | None] = {
    number: signal.signal(number, stop.handle)
    for number in SIGNALS
    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
  }
  before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
  watcher = threading.Thread(target=stop.watch, args=(reading,), daemon=True)
  if at_once:
    watcher.start()
  try:
    yield stop
  finally:
    stop.close()
    signal.set_wakeup_fd(before)
    stop.restore(handlers)
    os.close(writing)  # The watcher reads the end of the file.
    if at_once:
      watcher.join()
    os.close(reading)
    _current = None
