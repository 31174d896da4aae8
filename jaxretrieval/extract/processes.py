"""Which of several processes this is, and what of the work is its own."""

import argparse
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

# The options.
INDEX = 'from 0; default: the place of this task in its SLURM array, if any'
COUNT = 'default: the tasks of the SLURM array, if any'

T = TypeVar('T')


class Process(NamedTuple):
  """Process `index` of `count`."""

  index: int
  count: int

  def share(self, work: Sequence[T]) -> Sequence[T]:
    """Every `count`-th piece, from `index` on: of each piece one process.

    >>> Process(1, 3).share('abcdefgh')
    'beh'
    """
    return work[self.index :: self.count]


ALONE = Process(0, 1)


def find(
  index: int | None, count: int | None, environ: Mapping[str, str]
) -> Process:
  """Which process this is: what it was told, else the task of a SLURM array.

  Args:
    index: `--process_index`.
    count: `--process_count`.
    environ: `os.environ`.

  Raises:
    ValueError: an index outside of the count, or an array with holes: which
      tasks such an array has, SLURM tells none of them.

  >>> array = {'SLURM_ARRAY_TASK_ID': '5', 'SLURM_ARRAY_TASK_COUNT': '4'}
  >>> array |= {'SLURM_ARRAY_TASK_MIN': '3', 'SLURM_ARRAY_TASK_MAX': '6'}
  >>> find(None, None, array), find(0, 2, array), find(None, None, {})
  (Process(index=2, count=4), Process(index=0, count=2), Process(index=0, count=1))
  """  # noqa: E501
  if index is not None or count is not None:
    if index is None and count != 1:
      raise ValueError(
        f'--process_count={count} needs --process_index: else each of them '
        'would be the first'
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
        f'SLURM_ARRAY_TASK_COUNT={count}, but tasks {first} to {last} by '
        f'{step} are others: give --process_index and --process_count'
      )
    index = (task - first) // step
  else:
    index, count = 0, 1
  if not 0 <= index < count:
    raise ValueError(
      f'--process_index={index} is from 0 to --process_count - 1, {count - 1}'
    )
  return Process(index, count)


def chosen(
  parser: argparse.ArgumentParser,
  options: argparse.Namespace,
  environ: Mapping[str, str],
) -> Process:
  """What `find` says of a command's options; ends it where they cannot be."""
  try:
    return find(options.process_index, options.process_count, environ)
  except ValueError as error:
    parser.error(str(error))
