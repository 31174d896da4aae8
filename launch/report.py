"""Tables and curves of finished runs: `python -m launch.report DIR [DIR2 ...]`.

`--columns='test/*/recall@10'` keeps the metrics whose names match; without,
they are those of the paper if a sweep has its numbers, and else all.
`--cost=method=none` adds the time of a step over that of another row.

Every folder below with a config.json is a run. Runs whose configs differ only
in the seed are one row: mean ± sample standard deviation (number of runs). A
run that has not finished is counted but has no value: `–`. Of a sweep all rows
are shown, begun or not, and beside each number the paper's, if its config file
has them, and the difference.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from launch import resolved
from launch.config import SAFE, flatten
from launch.exits import EXPECTED, tell
from launch.files import write_text
from launch.table import read_sweep, table, without_seed
from launch.writers import Row, evaluation, final_metrics, read_metrics

# What is drawn, by the last part of a metric's name, and its unit.
_UNITS = {'accuracy': 'fraction', 'top1': 'fraction', 'loss': 'nats'}


class RunFolder(NamedTuple):
  """One run: its config without the seed, its rows, how it ended.

  Attributes:
    row: the folder's name without its seed: the row of the sweep it is.
    fields: the config by dotted path, less the seed and what does not matter.
    rows: the rows of metrics.jsonl.
    final: the metrics of the last evaluation, None if the run has not ended.
  """

  row: str
  fields: dict[str, Any]
  rows: list[Row]
  final: dict[str, float] | None


def find_runs(folder: pathlib.Path) -> Iterator[RunFolder]:
  """Yields the runs in `folder` and below, by path."""
  for path, folders, files in os.walk(folder):
    folders.sort()
    if 'config.json' in files:
      folders.clear()
      workdir = pathlib.Path(path)
      fields = flatten(resolved.read(workdir / 'config.json'))
      yield RunFolder(
        without_seed(workdir.name),
        {
          name: value
          for name, value in fields.items()
          if name != 'seed' and name not in SAFE
        },
        read_metrics(workdir),
        _final(workdir),
      )


def _final(workdir: pathlib.Path) -> dict[str, float] | None:
  final = final_metrics(workdir)
  # What launch.evaluate found later of the same checkpoint.
  last = max((row['step'] for row in read_metrics(workdir)), default=0)
  for row in read_metrics(workdir, 'evaluations.jsonl'):
    if final is not None and row['step'] == last:
      final = final | evaluation(row)
  return final


def group_runs(runs: Sequence[RunFolder]) -> dict[str, list[RunFolder]]:
  """Returns runs that differ only in the seed, by what sets them apart."""
  names = {name for run in runs for name in run.fields}
  apart = [
    name
    for name in sorted(names)
    if len({json.dumps(run.fields.get(name)) for run in runs}) > 1
  ]
  groups = {}
  for run in runs:
    parts = (f'{n}={run.fields[n]}' for n in apart if n in run.fields)
    groups.setdefault(', '.join(parts) or 'all runs', []).append(run)
  # A sweep has shorter names for them, if they are its rows.
  rows = [{run.row for run in runs} for runs in groups.values()]
  short = [row.pop() for row in rows if len(row) == 1]
  if len(set(short)) == len(groups) and all('=' in name for name in short):
    return dict(zip(short, groups.values(), strict=True))
  return groups


def add_cost(groups: dict[str, list[RunFolder]], baseline: str) -> None:
  """Adds `cost` to what each run ended with: the time of a step over another's.

  Both are medians of `time/step_ms`, which leaves out compiling and evaluating;
  the other's of its runs' medians.

  Raises:
    ValueError: there is no such group, or none of its runs tells its times.
  """
  known = groups.get(baseline, [])
  times = [time for run in known if (time := _step_ms(run)) is not None]
  if not times:
    raise ValueError(
      f'--cost={baseline}: there is no such row with times; there are '
      f'{", ".join(groups)}'
    )
  for run in (run for runs in groups.values() for run in runs):
    time = _step_ms(run)
    if run.final is not None and time is not None:
      run.final['cost'] = time / statistics.median(times)


def _step_ms(run: RunFolder) -> float | None:
  times = [r['time/step_ms'] for r in run.rows if 'time/step_ms' in r]
  return statistics.median(times) if times else None


def plot_curves(groups: dict[str, list[RunFolder]], path: pathlib.Path) -> None:
  """Draws accuracies and losses by epoch: mean lines, bands of ± one std."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  names = {
    name: _UNITS[name.rsplit('/', 1)[-1]]
    for runs in groups.values()
    for run in runs
    for row in run.rows
    for name in evaluation(row)
    if name.rsplit('/', 1)[-1] in _UNITS
  }
  if not names:
    return
  figure, axes = plt.subplots(
    1, len(names), figsize=(5 * len(names), 4), squeeze=False
  )
  for axis, (name, unit) in zip(axes[0], names.items(), strict=True):
    for group, runs in groups.items():
      epochs, means, stds = _curve(runs, name)
      (line,) = axis.plot(epochs, means, label=group)
      axis.fill_between(
        epochs,
        [m - s for m, s in zip(means, stds, strict=True)],
        [m + s for m, s in zip(means, stds, strict=True)],
        color=line.get_color(),
        alpha=0.2,
        linewidth=0,
      )
    axis.set(xlabel='epoch', ylabel=f'{name} ({unit})')
    axis.grid(alpha=0.3)
  axes[0][0].legend(fontsize='small', title='mean ± one std')
  figure.tight_layout()
  figure.savefig(path, dpi=150)
  plt.close(figure)


def _curve(runs: Sequence[RunFolder], name: str):
  by_epoch: dict[float, list[float]] = {}
  for run in runs:
    for row in run.rows:
      if name in row:
        by_epoch.setdefault(row['epoch'], []).append(row[name])
  epochs = sorted(by_epoch)
  values = [by_epoch[epoch] for epoch in epochs]
  means = [statistics.fmean(v) for v in values]
  stds = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values]
  return epochs, means, stds


def main(argv: Sequence[str]) -> int:
  """Prints the table of the folders in `argv`; returns the exit code."""
  parser = argparse.ArgumentParser('python -m launch.report')
  parser.add_argument('folders', nargs='+', metavar='DIR', type=pathlib.Path)
  parser.add_argument('--columns', default='', help='metrics, by a pattern')
  parser.add_argument(
    '--cost', default='', metavar='ROW', help='compares times of a step to it'
  )
  args = parser.parse_args(argv)
  try:
    report(args.folders, args.columns, args.cost)
  except EXPECTED as error:
    return tell(error)
  return 0


def report(
  folders: Sequence[pathlib.Path], columns: str = '', cost: str = ''
) -> None:
  """Prints the table of all runs; it and the curves go to the first folder.

  Raises:
    ValueError: a folder is none, there are no runs, one has a config.json that
      is none, or nothing is called `cost`.
    OSError: the first folder takes no files.
  """
  runs = [run for folder in folders for run in find_runs(folder)]
  if not runs or not all(folder.is_dir() for folder in folders):
    raise ValueError(f'no folder with runs: {", ".join(map(str, folders))}')
  groups = group_runs(runs)
  if cost:
    add_cost(groups, cost)
  finals = {name: [run.final for run in runs] for name, runs in groups.items()}
  text = table(finals, read_sweep(folders[0]), columns)
  print(text, end='')
  write_text(folders[0] / 'report.md', text)
  try:
    plot_curves(groups, folders[0] / 'curves.png')
  except ModuleNotFoundError:
    print('curves.png needs matplotlib', file=sys.stderr)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
