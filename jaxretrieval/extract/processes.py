"""Process index and count, from flags or a SLURM array, to divide work."""

import argparse
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

# Help texts of --process_index and --process_count.
INDEX_HELP = 'from 0; default: position in the SLURM array, if any'
COUNT_HELP = 'default: number of tasks in the SLURM array, if any'

T = TypeVar('T')


class Process(NamedTuple):
  """Process `index` of `count`."""

  index: int
  count: int

  def share(self, work: Sequence[T]) -> Sequence[T]:
    """Returns every `count`-th item from `index` on: the work of this process.

    >>> Process(1, 3).share('abcdefgh')
    'beh'
    """
    return work[self.index :: self.count]


SINGLE = Process(0, 1)


def resolve(
  index: int | None, count: int | None, environ: Mapping[str, str]
) -> Process:
  """Returns this process from its flags, else from its SLURM array.

  Args:
    index: `--process_index`.
    count: `--process_count`.
    environ: `os.environ`.

  Raises:
    ValueError: the index is not below the count, or the array has gaps: SLURM
      does not tell a task the indices of such an array.

  >>> array = {'SLURM_ARRAY_TASK_ID': '5', 'SLURM_ARRAY_TASK_COUNT': '4'}
  >>> array |= {'SLURM_ARRAY_TASK_MIN': '3', 'SLURM_ARRAY_TASK_MAX': '6'}
  >>> resolve(None, None, array)
  Process(index=2, count=4)
  >>> resolve(0, 2, array), resolve(None, None, {}).count
  (Process(index=0, count=2), 1)
  """
  if index is not None or count is not None:
    if index is None and count != 1:
      raise ValueError(
        f'--process_count={count} requires --process_index: without it each '
        'process would have index 0'
      )
    index, count = index or 0, 1 if count is None else count
  elif 'SLURM_ARRAY_TASK_ID' in environ:
    task, first, last, step, count = (
      int(environ.get(f'SLURM_ARRAY_TASK_{name}', default))
      for name, default in (
        *(('ID', ''), ('MIN', '0'), ('MAX', '-1'), ('STEP', '1')),
        ('COUNT', '1'),
      )
    )
    if (last - first) // step + 1 != count or (task - first) % step:
      raise ValueError(
        f'SLURM_ARRAY_TASK_COUNT={count} does not match tasks {first} to '
        f'{last} in steps of {step}, because the array has gaps: give '
        '--process_index and --process_count'
      )
    index = (task - first) // step
  else:
    index, count = 0, 1
  if not 0 <= index < count:
    raise ValueError(
      f'--process_index={index} must be from 0 to {count - 1}, which is '
      '--process_count - 1'
    )
  return Process(index, count)


def from_options(
  parser: argparse.ArgumentParser,
  options: argparse.Namespace,
  environ: Mapping[str, str],
) -> Process:
  """Returns the process of parsed flags; exits with a usage error."""
  try:
    return resolve(options.process_index, options.process_count, environ)
  except ValueError as error:
    parser.error(str(error))
