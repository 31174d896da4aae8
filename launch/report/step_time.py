"""Relative step time: that of a method, divided by that of a baseline."""

import statistics
from collections.abc import Sequence

from launch.report.groups import Group
from launch.report.runs import RunFolder
from launch.workdir.env import machines


def add_relative_step_time(
  groups: Sequence[Group], baseline: str = ''
) -> list[str]:
  """Adds `cost`, the relative step time, to the final metrics of each run.

  It is the median of `time/step_ms`, which excludes compilation and evaluation,
  divided by that of the baseline (the median over its runs on the same type of
  machine). A run without such a baseline gets no `cost`.

  Args:
    groups: the lines of a report.
    baseline: the name of a group; empty for the one that its sweep names.

  Returns:
    Notes: on which machine it was measured, and for which groups it was not.

  Raises:
    ValueError: no group of that name has step times.
  """
  named = [group for group in groups if group.name == baseline]
  if baseline and not (named and _times(named[0].runs)):
    names = ', '.join(group.name for group in groups if _times(group.runs))
    raise ValueError(
      f'--cost={baseline}: no such entry has step times; those that have are '
      f'{names}'
      if names
      else f'--cost={baseline}: no run has step times'
    )
  baselines_on: dict[str, list[str]] = {}
  missing: list[str] = []
  for group in groups:
    if not _times(group.runs):
      continue
    baselines = named or [x for x in groups if x.name == group.baseline]
    if not baselines or not _times(baselines[0].runs):
      missing.append(
        f'no relative step time of {group.name}: '
        + (
          f'{group.baseline} has no step times'
          if baselines
          else 'it has no baseline'
        )
      )
      continue
    for run in group.runs:
      machine = _machine(run)
      if not machine:
        missing.append(
          f'no relative step time of {group.name}: its machine is not recorded'
        )
        continue
      times = _times([x for x in baselines[0].runs if _machine(x) == machine])
      own = _times([run])
      if own and times and run.final is not None:
        run.final['cost'] = own[0] / statistics.median(times)
        baselines_on.setdefault(machine, []).append(baselines[0].name)
      elif own and not times:
        others = {
          _machine(x) or 'an unrecorded machine' for x in baselines[0].runs
        }
        missing.append(
          f'no relative step time of {group.name} on {machine}: '
          f'{baselines[0].name} was measured on {" and ".join(sorted(others))}'
        )
  missing = list(dict.fromkeys(missing))
  notes = []
  for machine, names in baselines_on.items():
    text = ' or '.join(dict.fromkeys(names))
    notes.append(
      f'relative step time: median, divided by that of {text}, on {machine}'
    )
  return notes + missing or ['no relative step time: no run has step times']


def _times(runs: Sequence[RunFolder]) -> list[float]:
  """Returns the median step time in ms of each run that has any."""
  times = [
    [x['time/step_ms'] for x in run.records if x.get('time/step_ms', 0) > 0]
    for run in runs
  ]
  return [statistics.median(x) for x in times if x]


def _machine(run: RunFolder) -> str:
  """Returns the type of machine of a run; empty if it was not recorded."""
  types = machines(run.path)
  # The times of a run on several types cannot be compared: its name is unique.
  several = f'{" and ".join(types)} ({run.path})'
  return several if len(types) > 1 else ''.join(types)
