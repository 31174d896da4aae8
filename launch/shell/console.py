"""Console: standard streams that may be closed, full or no longer read.

A run continues whether or not its output can be written.
"""

import contextlib
import os
import sys
from typing import TextIO


def open_streams() -> None:
  """Replaces closed standard streams by /dev/null.

  Otherwise the next file that is opened would get the descriptor of one.
  """
  for number in range(3):
    try:
      os.fstat(number)
    except OSError:
      os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor
  sys.stdout = sys.stdout or open(1, 'w', closefd=False)
  sys.stderr = sys.stderr or open(2, 'w', closefd=False)


def log_line(text: str, stream: TextIO | None = None) -> None:
  """Prints a line, on stderr by default; ignores errors of the stream."""
  with contextlib.suppress(OSError, ValueError):
    print(text, file=stream or sys.stderr, flush=True)


def flush_streams() -> None:
  """Flushes the standard streams and discards what cannot be written.

  Otherwise Python would exit with code 120 because of it.
  """
  for stream in (sys.stdout, sys.stderr):
    try:
      stream.flush()
    except (OSError, ValueError):
      with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
