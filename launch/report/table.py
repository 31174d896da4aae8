"""The table of a report: what runs ended with, beside what a paper says."""

import fnmatch
import re
import statistics
from collections.abc import Mapping, Sequence

from launch.report.groups import Group

MISSING = '–'
# Shares of examples, which papers print in per cent: the last part of a name.
_SHARE = re.compile(r'top\d+|accuracy|(.+_)?error(_.+)?|(.+_)?recall@\d+')


def make_table(groups: Sequence[Group], columns: str = '') -> list[list[str]]:
  """Returns groups of runs as the cells of a table; the first line is its head.

  Shares of examples (`top1`, `accuracy`, `mean_error`, `recall@10`, ...) are in
  per cent, and their differences in points.

  Args:
    groups: the rows.
    columns: pattern of the metrics to show; empty for those of the paper if
      there is one, and else for all. `cost` is shown wherever it is.
  """
  found = [
    run.final for group in groups for run in group.runs if run.final is not None
  ]
  paper = [name for group in groups for name in group.paper]
  metrics = _metrics(found, paper, columns)
  shares = _shares([*found, *(group.paper for group in groups)])
  head = ['config', 'finished']
  for name in metrics:
    head.append(f'{name} (%)' if name in shares else name)
    head += ['paper', 'difference'] if name in paper else []
  lines = [head]
  for group in groups:
    ended = [run.final for run in group.runs if run.final is not None]
    total = max(len(group.runs), group.planned)
    cells = [group.name, f'{len(ended)} of {total}']
    for name in metrics:
      values = [final[name] for final in ended if name in final]
      cells.append(_mean_std(values, name in shares))
      if name in paper:
        cells += _beside(values, group.paper.get(name), name in shares)
    lines.append(cells)
  return lines


def markdown(lines: Sequence[Sequence[str]]) -> str:
  r"""Returns a table as Markdown.

  >>> print(markdown([['config', 'cost'], ['a|b', '1.5']]), end='')
  | config | cost |
  | --- | ---: |
  | a\|b | 1.5 |
  """
  rule = ['---', *['---:'] * (len(lines[0]) - 1)]
  escaped = [[cell.replace('|', r'\|') for cell in line] for line in lines]
  return ''.join(
    f'| {" | ".join(line)} |\n' for line in (escaped[0], rule, *escaped[1:])
  )


def _metrics(
  found: Sequence[Mapping[str, float]], paper: Sequence[str], columns: str
) -> list[str]:
  metrics = [name for final in found for name in final]
  if columns or not paper:
    metrics = [x for x in metrics if fnmatch.fnmatchcase(x, columns or '*')]
  else:
    # And what the same evaluators found with other options.
    other = [x for x in metrics if x not in paper and _plain(x) in paper]
    metrics = [*paper, *other]
  # It is there only if it was asked for.
  metrics += ['cost'] * any('cost' in final for final in found)
  # The bounds of one run's interval have no use as a mean over seeds.
  metrics = [x for x in metrics if not x.endswith(('_low', '_high'))]
  return list(dict.fromkeys(metrics))


def _plain(metric: str) -> str:
  return re.sub(r'\(.*\)/', '/', metric)


def _shares(found: Sequence[Mapping[str, float]]) -> set[str]:
  values: dict[str, list[float]] = {}
  for metrics in found:
    for name, value in metrics.items():
      values.setdefault(name, []).append(value)

  def is_share(name: str) -> bool:
    evaluator, _, last = name.rpartition('/')
    # What an evaluator takes the mean error of are errors, by whatever name.
    part = f'{evaluator}/mean_error' in values and last != 'loss'
    return bool(_SHARE.fullmatch(last)) or part

  return {
    name
    for name, all_of_it in values.items()
    if is_share(name) and all(0 <= value <= 1 for value in all_of_it)
  }


def _beside(
  values: list[float], paper: float | None, share: bool
) -> tuple[str, str]:
  if paper is None:
    return MISSING, MISSING
  difference = MISSING
  if values:
    apart = statistics.fmean(values) - paper
    difference = f'{100 * apart:+.2f}' if share else f'{apart:+.4g}'
  return f'{100 * paper:.2f}' if share else f'{paper:.4g}', difference


def _mean_std(values: list[float], share: bool) -> str:
  if not values:
    return MISSING
  mean, std = statistics.fmean(values), MISSING
  if len(values) > 1:
    spread = statistics.stdev(values)
    std = f'{100 * spread:.2f}' if share else f'{spread:.2g}'
  shown = f'{100 * mean:.2f}' if share else f'{mean:.4g}'
  return f'{shown} ± {std} ({len(values)})'
