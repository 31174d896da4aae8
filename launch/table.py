"""The table of a report: what runs ended with, beside what a paper says."""

import fnmatch
import re
import statistics
from collections.abc import Sequence

from launch.groups import Group


def table(groups: Sequence[Group], columns: str = '') -> str:
  """Returns groups of runs as a Markdown table.

  Args:
    groups: the rows.
    columns: pattern of the metrics to show; empty for those of the paper if
      there is one, and else for all. `cost` is shown wherever it is.
  """
  found = [
    run.final for group in groups for run in group.runs if run.final is not None
  ]
  paper = [name for group in groups for name in group.paper]
  if columns or not paper:
    metrics = [name for final in found for name in final]
    metrics = [x for x in metrics if fnmatch.fnmatchcase(x, columns or '*')]
  else:
    # And what the same evaluators found with other options.
    other = [x for final in found for x in final if _plain(x) in paper]
    metrics = paper + [x for x in other if '(' in x]
  # It is there only if it was asked for.
  metrics = metrics + ['cost'] * any('cost' in final for final in found)
  # The bounds of one run's interval have no use as a mean over seeds.
  metrics = [x for x in metrics if not x.endswith(('_low', '_high'))]
  metrics = list(dict.fromkeys(metrics))
  head = ['config', 'finished']
  for name in metrics:
    head += [name, 'paper', 'difference'] if name in paper else [name]
  lines = [head, ['---', *['---:'] * (len(head) - 1)]]
  for group in groups:
    ended = [run.final for run in group.runs if run.final is not None]
    total = max(len(group.runs), group.planned)
    cells = [group.name, f'{len(ended)} of {total}']
    for name in metrics:
      values = [final[name] for final in ended if name in final]
      cells.append(_mean_std(values))
      if name in paper:
        cells += _beside(values, group.paper.get(name))
    lines.append(cells)
  return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def _plain(metric: str) -> str:
  return re.sub(r'\(.*\)/', '/', metric)


def _beside(values: list[float], paper: float | None) -> tuple[str, str]:
  if paper is None:
    return '–', '–'
  difference = f'{statistics.fmean(values) - paper:+.4g}' if values else '–'
  return f'{paper:.4g}', difference


def _mean_std(values: list[float]) -> str:
  if not values:
    return '–'
  std = f'{statistics.stdev(values):.2g}' if len(values) > 1 else '–'
  return f'{statistics.fmean(values):.4g} ± {std} ({len(values)})'
