"""Memory of the host, kept by the process that freed it."""

import contextlib
import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
  """Has glibc keep what is freed, for the next step to use again.

  XLA on a CPU asks for its large buffers anew in every step. By default glibc
  maps each from the kernel and gives it back when it is freed, so that every
  page of it is faulted in and zeroed again, step after step. The process then
  stays as large as it ever was.

  Call it before devices are used, which starts threads. Does nothing where
  libc is not glibc.

  Returns:
    Whether it was done.
  """
  if not sys.platform.startswith('linux'):
    return False
  with contextlib.suppress(AttributeError, OSError):
    mallopt = ctypes.CDLL(None).mallopt
    # One arena for all threads: others map what is large anyway.
    return all(
      mallopt(option, value)
      for option, value in (
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, -1),
        (_M_ARENA_MAX, 1),
      )
    )
  return False
