"""What a method costs: the time of its step over that of another."""

import statistics
from collections.abc import Sequence

from launch.groups import Group
from launch.runs import RunFolder


def add_cost(groups: Sequence[Group], baseline: str) -> None:
  """Adds `cost` to what each run ended with: the time of a step over another's.

  Both are medians of `time/step_ms`, which leaves out compiling and evaluating;
  the other's of its runs' medians.

  Raises:
    ValueError: there is no such group, or none of its runs tells its times.
  """
  known = [
    run for group in groups if group.name == baseline for run in group.runs
  ]
  times = [time for run in known if (time := _step_ms(run)) is not None]
  if not times:
    names = ', '.join(group.name for group in groups)
    raise ValueError(
      f'--cost={baseline}: there is no such row with times; there are {names}'
    )
  for run in (run for group in groups for run in group.runs):
    time = _step_ms(run)
    if run.final is not None and time is not None:
      run.final['cost'] = time / statistics.median(times)


def _step_ms(run: RunFolder) -> float | None:
  times = [r['time/step_ms'] for r in run.rows if 'time/step_ms' in r]
  return statistics.median(times) if times else None
