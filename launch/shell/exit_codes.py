"""Exit codes of a process, and the one line on stderr that explains them.

Errors keep their types (ValueError, OSError, ...) wherever they are raised,
also in tasks, which do not know the exit codes. The caller states with
`classify_errors` what a failure means.
"""

import contextlib
import enum
import os
import pathlib
import traceback
from collections.abc import Iterator

from launch.shell.console import log_line


class ExitCode(enum.IntEnum):
  """Exit codes. 0 is success; 128 + n is a stop by signal n, 143 or 130."""

  BUG = 1  # an unexpected error in the trainer or in the task
  DATA = 3  # the data set is missing, damaged or does not match the config
  CHECKPOINT = 4  # there are checkpoints, but none can be restored
  NUMERICS = 5  # the loss or a gradient is not finite
  PEER = 6  # another process of the run failed
  DISK = 7  # the disk is full or cannot be written
  CONFIG = 8  # invalid flag or config, or the config of another run
  LOCK = 9  # another process trains in the workdir


# Errors that the user can cause and fix. Any other error is a bug.
EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)


@contextlib.contextmanager
def classify_errors(code: ExitCode) -> Iterator[None]:
  """Assigns `code` to expected errors that are raised in the block.

  The innermost block wins. A ValueError that begins with `config.` is about
  that field, wherever it was raised.

  >>> try:
  ...   with classify_errors(ExitCode.DISK), classify_errors(ExitCode.DATA):
  ...     raise ValueError('no such record')
  ... except ValueError as error:
  ...   print(repr(exit_code(error)))
  <ExitCode.DATA: 3>
  """
  try:
    yield
  except EXPECTED as error:
    if not hasattr(error, 'exit_code'):
      of_field = isinstance(error, ValueError) and str(error).startswith(
        'config.'
      )
      code = ExitCode.CONFIG if of_field else code
      setattr(error, 'exit_code', code)  # noqa: B010
    raise


def exit_code(error: BaseException) -> ExitCode:
  """Returns the exit code of a process that ends with this error."""
  if isinstance(error, FloatingPointError):
    return ExitCode.NUMERICS
  if not isinstance(error, EXPECTED):
    return ExitCode.BUG
  # All reading is classified, so an OSError without a code is about a file
  # that the run writes.
  default = ExitCode.DISK if isinstance(error, OSError) else ExitCode.CONFIG
  return getattr(error, 'exit_code', default)


def report_error(
  error: BaseException, crash: pathlib.Path | None = None
) -> ExitCode:
  """Prints one line about an error on stderr; returns the exit code.

  Args:
    error: what ended the process.
    crash: file that receives the traceback of a bug, if its folder exists.
  """
  code, text = exit_code(error), ' '.join(str(error).split())
  if code == ExitCode.BUG:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    location = f'{os.path.basename(frame.filename)}:{frame.lineno}'
    text = text.removesuffix('.')
    text = f'{type(error).__name__} at {location}: {text}. This is a bug; '
    text += 'run it with --debug to see the traceback'
    if crash is not None and crash.parent.is_dir():
      # Importing the package `jaxmix` imports jax, which is too slow here for
      # programs that need none.
      from jaxmix.files.atomic import write_text

      with contextlib.suppress(OSError):
        write_text(crash, ''.join(traceback.format_exception(error)))
        text += f', which was also written to {crash}'
  log_line(f'error: {text}')
  return code
