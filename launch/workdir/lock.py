"""One trainer to a workdir: a lock that dies with its process."""

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
_PAUSE = 0.02  # seconds between two tries


@contextlib.contextmanager
def hold_lock(
  workdir: pathlib.Path, *, name: str = NAME, seconds: float = 0
) -> Iterator[None]:
  """Holds the lock of a workdir, which is made if need be.

  The operating system frees it when the process ends, however it ends: a lock
  file that is left behind locks nothing.

  Args:
    workdir: the folder of a run, or of many.
    name: the file in it. A run has one for its trainer, `lock`; files that
      several processes write have their own.
    seconds: how long to wait for another process.

  Raises:
    ValueError: another process holds it; names its host and pid.
    OSError: the folder cannot be made or written to.
  """
  path = workdir / name
  deadline = time.monotonic() + seconds
  with classify_errors(ExitCode.DISK):
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      file = path.open('a+')
    except OSError as error:
      raise OSError(
        f'{workdir} takes no files ({error.strerror}): mend that, or choose '
        'another --workdir'
      ) from error
  with contextlib.ExitStack() as closing:
    closing.enter_context(file)
    # The holder removes the file before it lets go of it: who waited for that
    # very moment has locked a file that is gone.
    while not _lock(file, path, time.monotonic() < deadline):
      file.close()
      time.sleep(_PAUSE if seconds else 0)
      file = closing.enter_context(path.open('a+'))
    # A full disk is no reason not to look at a run.
    with contextlib.suppress(OSError):
      file.truncate(0)
      json.dump({'host': socket.gethostname(), 'pid': os.getpid()}, file)
      file.flush()
    try:
      yield
    finally:
      # Somebody may have removed it, and another process made its own.
      with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
          path.unlink()


def _lock(file: IO[str], path: pathlib.Path, patient: bool) -> bool:
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    if patient:
      return False
    doing = 'trains in it' if path.name == NAME else f'holds {path.name}'
    with classify_errors(ExitCode.LOCK):
      raise ValueError(
        f'{path.parent} is in use: {_holder(path)} {doing}. Wait for it, '
        'stop it, or choose another --workdir'
      ) from None
  except OSError as error:
    if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
      raise
    logging.warning(
      '%s cannot be locked (%s): see to it yourself that no other process '
      'trains there',
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
    about = json.loads(path.read_text())
    return f'process {about["pid"]} on {about["host"]}'
  except (OSError, ValueError, KeyError, TypeError):
    return 'another process'
