"""What a method costs: the time of its step over that of another, measured."""

import statistics
from collections.abc import Sequence

from launch.report.groups import Group
from launch.report.runs import RunFolder
from launch.workdir.env import machines


def add_cost(groups: Sequence[Group], baseline: str = '') -> list[str]:
  """Adds `cost` to what each run ended with: the time of a step over another's.

  Both are medians of `time/step_ms`, which leaves out compiling and evaluating;
  the other's of its runs' medians on the same kind of machine. Without one, a
  run has no cost.

  Args:
    groups: the rows of a report.
    baseline: the name of a row; empty for the one that its sweep names.

  Returns:
    Sentences: where it was measured, and of which rows it was not.

  Raises:
    ValueError: there is no row of that name.
  """
  named = [group for group in groups if group.name == baseline]
  if baseline and not (named and _times(named[0].runs)):
    names = ', '.join(group.name for group in groups if _times(group.runs))
    raise ValueError(
      f'--cost={baseline}: there is no such row with times to compare with: '
      f'{names or "none has any"}'
    )
  places: dict[str, list[str]] = {}
  refused: list[str] = []
  for group in groups:
    if not _times(group.runs):
      continue
    found = named or [x for x in groups if x.name == group.baseline]
    if not found or not _times(found[0].runs):
      refused.append(
        f'no cost of {group.name}: '
        + (f'{group.baseline} has no times' if found else 'it has no baseline')
      )
      continue
    for run in group.runs:
      place = _place(run)
      if not place:
        refused.append(f'no cost of {group.name}: its machine is not recorded')
        continue
      times = _times([x for x in found[0].runs if _place(x) == place])
      own = _times([run])
      if own and times and run.final is not None:
        run.final['cost'] = own[0] / statistics.median(times)
        places.setdefault(place, []).append(found[0].name)
      elif own and not times:
        others = {_place(x) or 'one not recorded' for x in found[0].runs}
        refused.append(
          f'no cost of {group.name} on {place}: {found[0].name} was measured '
          f'on {" and ".join(sorted(others))}'
        )
  refused = list(dict.fromkeys(refused))
  notes = []
  for place, baselines in places.items():
    those = ' or '.join(dict.fromkeys(baselines))
    notes.append(
      f'cost: median time of a step over that of {those}, measured on {place}'
    )
  return notes + refused or ['no cost: no run has measured a step']


def _times(runs: Sequence[RunFolder]) -> list[float]:
  """The median time of a step of each run that has any, in ms."""
  times = [
    [row['time/step_ms'] for row in run.rows if row.get('time/step_ms', 0) > 0]
    for run in runs
  ]
  return [statistics.median(x) for x in times if x]


def _place(run: RunFolder) -> str:
  found = machines(run.path)
  # Times of several are of none: it equals no other run's place.
  several = f'{" and ".join(found)} ({run.path})'
  return several if len(found) > 1 else ''.join(found)
