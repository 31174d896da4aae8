"""Stopping a run politely: SIGTERM and Ctrl-C."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], signal.Signals | None]]:
  """Notes SIGTERM and SIGINT instead of dying of them.

  A second SIGINT leaves at once, without saving. Use in the main thread.

  Yields:
    A function that returns the signal that came, or None.
  """
  received: list[signal.Signals] = []

  def note(number, frame):
    del frame
    number = signal.Signals(number)
    if number == signal.SIGINT and number in received:
      os._exit(128 + number)
    received.append(number)

  before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield lambda: received[0] if received else None
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
