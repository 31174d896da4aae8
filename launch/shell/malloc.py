"""Settings of glibc's malloc: freed memory stays with the process."""

import contextlib
import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
  """Configures glibc to keep freed memory instead of unmapping it.

  XLA on a CPU allocates its large buffers again in every step. By default
  glibc maps each from the kernel and unmaps it when it is freed, so that every
  page is faulted in and zeroed in each step. With this setting the process
  never shrinks.

  Call it before devices are used, because that starts threads. It does nothing
  where libc is not glibc.

  Returns:
    Whether the settings were applied.
  """
  if not sys.platform.startswith('linux'):
    return False
  with contextlib.suppress(AttributeError, OSError):
    mallopt = ctypes.CDLL(None).mallopt
    # One arena for all threads: the other arenas use mmap for large buffers.
    return all(
      mallopt(option, value)
      for option, value in (
        (_M_MMAP_MAX, 0),
        (_M_TRIM_THRESHOLD, -1),
        (_M_ARENA_MAX, 1),
      )
    )
  return False
