"""Command line of `launch.report`: its flags, and what it writes."""

import argparse
import pathlib
from collections.abc import Sequence

from jaxmix.files.atomic import write_text
from launch.report.curves import plot_curves
from launch.report.groups import group_runs
from launch.report.publish import publish_runs
from launch.report.runs import find_runs
from launch.report.step_time import add_relative_step_time
from launch.report.sweep_plan import read_sweep_plan
from launch.report.table import make_table, markdown
from launch.report.table_image import draw_table
from launch.shell.console import log_line
from launch.shell.exit_codes import EXPECTED, ExitCode, report_error


def main(argv: Sequence[str]) -> int:
  """Prints the report of the folders in `argv`; returns the exit code."""
  parser = argparse.ArgumentParser('python -m launch.report')
  parser.add_argument('folders', nargs='+', metavar='DIR', type=pathlib.Path)
  parser.add_argument(
    '--columns', default='', help='pattern of the metrics to show'
  )
  parser.add_argument(
    '--cost',
    nargs='?',
    const='',
    metavar='ENTRY',
    help='adds step times relative to an entry, by default the baseline',
  )
  parser.add_argument(
    '--keep',
    metavar='DIR',
    type=pathlib.Path,
    help='copies the finished runs there, without checkpoints and paths',
  )
  args = parser.parse_args(argv)
  try:
    return report(args.folders, args.columns, args.cost, args.keep)
  except EXPECTED as error:
    return report_error(error)


def report(
  folders: Sequence[pathlib.Path],
  columns: str = '',
  cost: str | None = None,
  keep: pathlib.Path | None = None,
) -> int:
  """Prints the table of all runs; writes table and images to the first folder.

  Args:
    folders: where to find runs.
    columns: pattern of the metrics to show; empty for the default.
    cost: the entry whose step time others are divided by; empty for the
      baseline of the sweep, None for no relative step times.
    keep: folder to copy the finished runs to, or None.

  Returns:
    The exit code: `ExitCode.CONFIG` if a run could not be read.

  Raises:
    ValueError: a folder does not exist, there are no runs, a sweep.json is
      invalid, the entry `cost` has no step times, or `keep` has other runs.
    OSError: the first folder, or `keep`, cannot be written.
  """
  for folder in folders:
    if not folder.is_dir():
      problem = 'is not a folder' if folder.exists() else 'does not exist'
      raise ValueError(f'{folder} {problem}')
  runs, errors = find_runs(folders)
  if not runs and not errors:
    names = ', '.join(map(str, folders))
    raise ValueError(f'there are no runs in: {names}')
  for error in errors:
    log_line(f'error: skipped {error}')
  groups = group_runs(runs, folders)
  parents = [*folders, *(run.path.parent for run in runs)]
  notes = list(
    dict.fromkeys(read_sweep_plan(parent).note for parent in parents)
  )
  notes = [note for note in notes if note]
  notes += [] if cost is None else add_relative_step_time(groups, cost)
  lines = make_table(groups, columns)
  text = markdown(lines) + ''.join(f'\n{note}\n' for note in notes)
  print(text, end='')
  write_text(folders[0] / 'report.md', text)
  if keep is not None:
    log_line(publish_runs(runs, folders, keep))
  try:
    draw_table(lines, folders[0] / 'table.png')
    plot_curves(groups, folders[0] / 'curves.png')
  except ModuleNotFoundError:
    log_line(
      "table.png and curves.png need matplotlib: pip install -e '.[plots]'"
    )
  return ExitCode.CONFIG if errors else 0
