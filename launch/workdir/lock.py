"""Workdir lock: one trainer per workdir; released when its process ends."""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import socket
import time
from collections.abc import Iterator
from typing import IO

from absl import logging

from launch.shell.exit_codes import ExitCode, classify_errors

NAME = 'lock'
_PAUSE = 0.02  # seconds between two attempts


@contextlib.contextmanager
def hold_lock(
  workdir: pathlib.Path, *, name: str = NAME, seconds: float = 0
) -> Iterator[None]:
  """Holds a lock of a workdir in the block; creates the folder if needed.

  The operating system releases the lock when the process ends for any reason: a
  lock file that is left over locks nothing.

  Args:
    workdir: the folder of a run or of a sweep.
    name: the lock file in it. `lock` is for the trainer of a run; files that
      several processes write have locks of their own.
    seconds: how long to wait for another process.

  Raises:
    ValueError: another process holds the lock; names its host and pid.
    OSError: the folder cannot be created or written.
  """
  path = workdir / name
  deadline = time.monotonic() + seconds
  with classify_errors(ExitCode.DISK):
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      file = path.open('a+')
    except OSError as error:
      raise OSError(
        f'{workdir} cannot be written ({error.strerror}): make it writable, or '
        'choose another --workdir'
      ) from error
  with contextlib.ExitStack() as closing:
    closing.enter_context(file)
    # The holder removes the file before it releases the lock, so a process that
    # waited may have locked a file that is gone: it tries again.
    while not _lock(file, path, time.monotonic() < deadline):
      file.close()
      time.sleep(_PAUSE if seconds else 0)
      file = closing.enter_context(path.open('a+'))
    # Locking works on a full disk too, only without these details.
    with contextlib.suppress(OSError):
      file.truncate(0)
      json.dump({'host': socket.gethostname(), 'pid': os.getpid()}, file)
      file.flush()
    try:
      yield
    finally:
      # Another process may have removed the file and created its own.
      with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
          path.unlink()


def _lock(file: IO[str], path: pathlib.Path, may_wait: bool) -> bool:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    if may_wait:
      return False
    use = 'trains there' if path.name == NAME else f'holds {path.name}'
    with classify_errors(ExitCode.LOCK):
      raise ValueError(
        f'{path.parent} is in use: {_holder(path)} {use}. Wait for it, '
        'stop it, or choose another --workdir'
      ) from None
  except OSError as error:
    if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
      raise
    logging.warning(
      '%s cannot be locked (%s): make sure that no other process trains there',
      path,
      error.strerror,
    )
    return True
  try:
    return os.path.samestat(os.fstat(file.fileno()), path.stat())
  except FileNotFoundError:
    return False


def _holder(path: pathlib.Path) -> str:
  try:
    holder = json.loads(path.read_text())
    return f'process {holder["pid"]} on {holder["host"]}'
  except (OSError, ValueError, KeyError, TypeError):
    return 'another process'
