"""The table of a report: what runs ended with, beside what a paper says."""

import collections
import fnmatch
import json
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Sweep(NamedTuple):
  """What a folder of `launch.sweep` should come to hold.

  Attributes:
    planned: rows without their seeds, in order: how many runs of each.
    paper: by row and metric, what a paper says.
  """

  planned: dict[str, int]
  paper: dict[str, dict[str, float]]


def read_sweep(folder: pathlib.Path) -> Sweep:
  """Reads `folder/sweep.json`; empty if there is none.

  Raises:
    ValueError: it is broken; names it.
  """
  path = folder / 'sweep.json'
  if not path.exists():
    return Sweep({}, {})
  try:
    content = json.loads(path.read_text())
    planned = collections.Counter(map(without_seed, content['rows']))
    paper = {
      row: {metric: float(value) for metric, value in metrics.items()}
      for row, metrics in content['paper'].items()
    }
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise ValueError(f'{path} is broken: {error!r}') from error
  return Sweep(dict(planned), paper)


def without_seed(row: str) -> str:
  """The name of a row of a sweep, for all of its seeds.

  >>> without_seed('method=none,seed=1')
  'method=none'
  """
  parts = [x for x in row.split(',') if not re.fullmatch(r'seed=\d+', x)]
  return ','.join(parts) or 'all runs'


def table(
  groups: Mapping[str, Sequence[Mapping[str, float] | None]],
  sweep: Sweep,
  columns: str = '',
) -> str:
  """Returns groups of runs as a Markdown table.

  Args:
    groups: by name, what each run ended with; None if it has not.
    sweep: rows and numbers beside; rows that have no runs are shown too.
    columns: pattern of the metrics to show; empty for those of the paper if
      there is one, and else for all. `cost` is shown wherever it is.
  """
  groups = {row: groups.get(row, []) for row in sweep.planned} | dict(groups)
  found = [x for finals in groups.values() for x in finals if x is not None]
  paper = [name for row in sweep.paper.values() for name in row]
  if columns or not paper:
    metrics = [name for final in found for name in final]
    metrics = [x for x in metrics if fnmatch.fnmatchcase(x, columns or '*')]
  else:
    metrics = paper
  # It is there only if it was asked for.
  metrics = metrics + ['cost'] * any('cost' in final for final in found)
  # The bounds of one run's interval have no use as a mean over seeds.
  metrics = [x for x in metrics if not x.endswith(('_low', '_high'))]
  metrics = list(dict.fromkeys(metrics))
  head = ['config', 'finished']
  for name in metrics:
    head += [name, 'paper', 'difference'] if name in paper else [name]
  lines = [head, ['---', *['---:'] * (len(head) - 1)]]
  for group, finals in groups.items():
    ended = [final for final in finals if final is not None]
    total = max(len(finals), sweep.planned.get(group, 0))
    cells = [group, f'{len(ended)} of {total}']
    for name in metrics:
      values = [final[name] for final in ended if name in final]
      cells.append(_mean_std(values))
      if name in paper:
        cells += _beside(values, sweep.paper.get(group, {}).get(name))
    lines.append(cells)
  return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


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
