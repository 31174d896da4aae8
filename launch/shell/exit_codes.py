"""How a process says what ended it: exit codes, and one line on stderr.

Errors keep their types (ValueError, OSError, ...) wherever they are raised, by
tasks too, which know nothing of exit codes. Whoever calls says what a failure
there means, with `blame`.
"""

import contextlib
import enum
import os
import pathlib
import traceback
from collections.abc import Iterator

from jaxmix.files.atomic import write_text
from launch.shell.console import log_line


class ExitCode(enum.IntEnum):
  """Exit codes. 0 is success; 128 + n is a stop by signal n, 143 or 130."""

  BUG = 1  # of the trainer or of the task: nothing that was foreseen
  DATA = 3  # the data set is missing, damaged or not what the config says
  CHECKPOINT = 4  # there are checkpoints, and none can be gone on from
  NUMERICS = 5  # the loss or a gradient is not finite
  PEER = 6  # another process of the run is lost
  DISK = 7  # no space, or what is written does not arrive
  CONFIG = 8  # a flag or a field of the config, or those of another run
  LOCK = 9  # another process trains in the workdir


# What people can cause and put right. Anything else is a bug.
EXPECTED = (ValueError, OSError, ImportError, FloatingPointError)


@contextlib.contextmanager
def classify_errors(code: ExitCode) -> Iterator[None]:
  """Has expected errors that are raised inside mean `code`.

  The innermost `blame` counts. A ValueError that begins with `config.` is about
  that field, wherever it was found.

  >>> try:
  ...   with blame(Exit.CHECKPOINT), blame(Exit.DATA):
  ...     raise ValueError('no such record')
  ... except ValueError as error:
  ...   print(repr(exit_code(error)))
  <Exit.DATA: 3>
  """
  try:
    yield
  except EXPECTED as error:
    if not hasattr(error, 'exit_code'):
      about = isinstance(error, ValueError) and str(error).startswith('config.')
      setattr(error, 'exit_code', ExitCode.CONFIG if about else code)  # noqa: B010
    raise


def exit_code(error: BaseException) -> ExitCode:
  """Returns what an error means for the process."""
  if isinstance(error, FloatingPointError):
    return ExitCode.NUMERICS
  if not isinstance(error, EXPECTED):
    return ExitCode.BUG
  # All reading is blamed on something: what is left is a file of the run.
  otherwise = ExitCode.DISK if isinstance(error, OSError) else ExitCode.CONFIG
  return getattr(error, 'exit_code', otherwise)


def report_error(
  error: BaseException, crash: pathlib.Path | None = None
) -> ExitCode:
  """Prints one line about an error on stderr; returns the exit code.

  The traceback of a bug goes to the file `crash`, if there is its folder.
  """
  code, text = exit_code(error), ' '.join(str(error).split())
  if code == ExitCode.BUG:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f'{os.path.basename(frame.filename)}:{frame.lineno}'
    text = f'{type(error).__name__} at {where}: {text}. This is a bug; '
    text += 'run it with --debug for the traceback'
    if crash is not None and crash.parent.is_dir():
      with contextlib.suppress(OSError):
        write_text(crash, ''.join(traceback.format_exception(error)))
        text += f', which is in {crash} too'
  log_line(f'error: {text}')
  return code
