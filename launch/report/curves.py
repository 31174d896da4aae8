"""Curves of a report: metrics by epoch."""

import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from launch.report.groups import Group
from launch.report.runs import RunFolder
from launch.workdir.metrics import evaluation

# The metrics that are drawn, by the last part of their names, and their units.
_UNITS = {'accuracy': 'fraction', 'top1': 'fraction', 'loss': 'cross entropy'}


def plot_curves(groups: Sequence[Group], path: pathlib.Path) -> None:
  """Draws accuracies and losses by epoch: the mean, and a band of ± one std.

  Writes no file if there is nothing to draw.

  Raises:
    ModuleNotFoundError: matplotlib is not installed.
    OSError: the file cannot be written.
  """
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot as plt

  groups = [group for group in groups if group.runs]
  names = {
    name: _UNITS[name.rsplit('/', 1)[-1]]
    for group in groups
    for run in group.runs
    for record in run.records
    for name in evaluation(record)
    if name.rsplit('/', 1)[-1] in _UNITS
  }
  if not names:
    return
  labels = [legend(group) for group in groups]
  # The legend is beside the curves: forty entries would hide them.
  height = max(4, 0.2 * len(labels) + 1)
  width = 5 * len(names) + 0.08 * max(map(len, labels)) + 0.5
  figure, axes = plt.subplots(
    1, len(names), figsize=(width, height), squeeze=False, layout='constrained'
  )
  colors = _colors(len(groups))
  for axis, (name, kind) in zip(axes[0], names.items(), strict=True):
    for group, color in zip(groups, colors, strict=True):
      epochs, means, stds = mean_curve(group.runs, name)
      # A line through a single point is invisible.
      marker = 'o' if len(epochs) == 1 else None
      axis.plot(epochs, means, marker=marker, color=color)
      axis.fill_between(
        epochs,
        [m - s for m, s in zip(means, stds, strict=True)],
        [m + s for m, s in zip(means, stds, strict=True)],
        color=color,
        alpha=0.2,
        linewidth=0,
      )
    axis.set(xlabel='epoch', ylabel=f'{name} ({kind})')
    axis.grid(alpha=0.3)
  several = any(len(group.runs) > 1 for group in groups)
  figure.legend(
    axes[0][0].get_lines(),
    labels,
    loc='outside right center',
    fontsize='small',
    title='mean ± one std' if several else None,
  )
  figure.savefig(path, dpi=150)
  plt.close(figure)


def _colors(count: int) -> list[Any]:
  """Returns a different colour for each of `count` curves."""
  import matplotlib

  if count <= 10:
    return [f'C{i}' for i in range(count)]
  many = matplotlib.colormaps['turbo'].resampled(count)
  return [many(i) for i in range(count)]


def legend(group: Group) -> str:
  """Returns the name of a curve: that of its group, and the number of runs."""
  count = len(group.runs)
  return group.name if count == 1 else f'{group.name} ({count} runs)'


def mean_curve(
  runs: Sequence[RunFolder], name: str
) -> tuple[list[float], list[float], list[float]]:
  """Returns the epochs, means and sample standard deviations of a metric."""
  by_epoch: dict[float, list[float]] = {}
  for run in runs:
    for record in run.records:
      if name in record:
        by_epoch.setdefault(record['epoch'], []).append(record[name])
  epochs = sorted(by_epoch)
  values = [by_epoch[epoch] for epoch in epochs]
  means = [statistics.fmean(v) for v in values]
  stds = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values]
  return epochs, means, stds
