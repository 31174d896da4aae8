"""What a program says: on streams that may be closed, full or read no more.

A run goes on whether or not somebody can hear it.
"""

import contextlib
import os
import sys
from typing import TextIO


def open_streams() -> None:
  """Has something take the place of standard streams that are closed.

  Else the next file that is opened would be one of them.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
  sys.stdout = sys.stdout or open(1, 'w', closefd=False)
  sys.stderr = sys.stderr or open(2, 'w', closefd=False)


def log_line(text: str, stream: TextIO | None = None) -> None:
  """Prints a line, on stderr unless said otherwise, as far as it gets."""
  with contextlib.suppress(OSError, ValueError):
    print(text, file=stream or sys.stderr, flush=True)


def flush_streams() -> None:
  """Gives up what no stream took: Python would end with code 120 over it."""
  for stream in (sys.stdout, sys.stderr):
    try:
      stream.flush()
    except (OSError, ValueError):
      with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
