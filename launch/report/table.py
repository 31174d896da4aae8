"""Table of a report: final metrics of runs beside the numbers of a paper."""

import fnmatch
import re
import statistics
from collections.abc import Mapping, Sequence

from launch.report.groups import Group

MISSING = '–'
# The last part of the names of fractions, which papers print in per cent.
_FRACTION = re.compile(r'top\d+|accuracy|(.+_)?error(_.+)?|(.+_)?recall@\d+')


def make_table(groups: Sequence[Group], columns: str = '') -> list[list[str]]:
  """Returns the cells of a table with a line for each group, and a header line.

  Fractions of examples (`top1`, `accuracy`, `mean_error`, `recall@10`, ...) are
  in per cent, and their differences in percentage points.

  Args:
    groups: the runs of each line.
    columns: pattern of the metrics to show; empty for those that the paper
      reports, or for all if there is no paper. `cost`, the relative step
      time, is shown if any run has it.
  """
  finals = [
    run.final for group in groups for run in group.runs if run.final is not None
  ]
  paper = [name for group in groups for name in group.paper]
  metrics = _metrics(finals, paper, columns)
  fractions = _fractions([*finals, *(group.paper for group in groups)])
  header = ['config', 'finished']
  for name in metrics:
    title = {'cost': 'relative step time'}.get(name, name)
    header.append(f'{title} (%)' if name in fractions else title)
    header += ['paper', 'difference'] if name in paper else []
  lines = [header]
  for group in groups:
    finished = [run.final for run in group.runs if run.final is not None]
    total = max(len(group.runs), group.planned)
    cells = [group.name, f'{len(finished)} of {total}']
    for name in metrics:
      values = [final[name] for final in finished if name in final]
      cells.append(_mean_std(values, name in fractions))
      if name in paper:
        cells += _compare(values, group.paper.get(name), name in fractions)
    lines.append(cells)
  return lines


def markdown(lines: Sequence[Sequence[str]]) -> str:
  r"""Returns a table as Markdown.

  >>> print(markdown([['config', 'loss'], ['a|b', '1.5']]), end='')
  | config | loss |
  | --- | ---: |
  | a\|b | 1.5 |
  """
  rule = ['---', *['---:'] * (len(lines[0]) - 1)]
  escaped = [[cell.replace('|', r'\|') for cell in line] for line in lines]
  return ''.join(
    f'| {" | ".join(line)} |\n' for line in (escaped[0], rule, *escaped[1:])
  )


def _metrics(
  finals: Sequence[Mapping[str, float]], paper: Sequence[str], columns: str
) -> list[str]:
  """Returns the names of the metrics to show, in order."""
  metrics = [name for final in finals for name in final]
  if columns or not paper:
    metrics = [x for x in metrics if fnmatch.fnmatchcase(x, columns or '*')]
  else:
    # Also those of the same evaluators with other options.
    other = [
      x for x in metrics if x not in paper and _without_options(x) in paper
    ]
    metrics = [*paper, *other]
  # Runs have it only on request.
  metrics += ['cost'] * any('cost' in final for final in finals)
  # The mean over seeds of the bounds of an interval has no meaning.
  metrics = [x for x in metrics if not x.endswith(('_low', '_high'))]
  return list(dict.fromkeys(metrics))


def _without_options(metric: str) -> str:
  return re.sub(r'\(.*\)/', '/', metric)


def _fractions(results: Sequence[Mapping[str, float]]) -> set[str]:
  """Returns the names of the metrics that are fractions of examples."""
  values: dict[str, list[float]] = {}
  for metrics in results:
    for name, value in metrics.items():
      values.setdefault(name, []).append(value)

  def is_fraction(name: str) -> bool:
    evaluator, _, last = name.rpartition('/')
    # The other metrics of an evaluator with a mean error are errors too.
    error = f'{evaluator}/mean_error' in values and last != 'loss'
    return bool(_FRACTION.fullmatch(last)) or error

  return {
    name
    for name, numbers in values.items()
    if is_fraction(name) and all(0 <= number <= 1 for number in numbers)
  }


def _compare(
  values: list[float], paper: float | None, fraction: bool
) -> tuple[str, str]:
  """Returns the cells of the paper's number and of the difference from it."""
  if paper is None:
    return MISSING, MISSING
  difference = MISSING
  if values:
    delta = statistics.fmean(values) - paper
    difference = f'{100 * delta:+.2f}' if fraction else f'{delta:+.4g}'
  return f'{100 * paper:.2f}' if fraction else f'{paper:.4g}', difference


def _mean_std(values: list[float], fraction: bool) -> str:
  if not values:
    return MISSING
  mean, std = statistics.fmean(values), MISSING
  if len(values) > 1:
    deviation = statistics.stdev(values)
    std = f'{100 * deviation:.2f}' if fraction else f'{deviation:.2g}'
  text = f'{100 * mean:.2f}' if fraction else f'{mean:.4g}'
  return f'{text} ± {std} ({len(values)})'
