"""Tables and curves of finished runs: `python -m launch.report DIR [DIR2 ...]`.

`--columns='test/*/recall@10'` keeps the metrics whose names match; without,
they are those of the paper if a sweep has its numbers, and else all.
`--cost` after the folders adds the time of a step over that of the row that the
sweep's config names, its BASELINE; `--cost=ROW` over that of another row. Where
both were measured is said: only runs of the same kind of machine are compared.
`--keep=DIR` copies the finished runs: what `launch.report DIR` needs to print
the same table, and neither checkpoints nor paths of this machine.

Every folder below with a config.json is a run. Runs whose configs differ only
in the seed are one row: mean ± sample standard deviation (number of runs). A
run that has not finished is counted but has no value: `–`. Of a sweep all rows
are shown, begun or not, and beside each number the paper's, if its config file
has them, and the difference. Shares such as top1 are in per cent. A run that
cannot be read is named on stderr and left out; the exit code is 8 then.

The table goes to `DIR/report.md` and `DIR/table.png`, how the runs went to
`DIR/curves.png`.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from jaxmix.files.atomic import write_text
from launch.report.curves import plot_curves
from launch.report.groups import group_runs
from launch.report.publish import keep_runs
from launch.report.runs import find_runs
from launch.report.step_time import add_cost
from launch.report.sweep_plan import read_sweep
from launch.report.table import make_table, markdown
from launch.report.table_image import draw_table
from launch.shell.console import log_line
from launch.shell.exit_codes import EXPECTED, ExitCode, report_error


def main(argv: Sequence[str]) -> int:
  """Prints the table of the folders in `argv`; returns the exit code."""
  parser = argparse.ArgumentParser('python -m launch.report')
  parser.add_argument('folders', nargs='+', metavar='DIR', type=pathlib.Path)
  parser.add_argument('--columns', default='', help='metrics, by a pattern')
  parser.add_argument(
    '--cost',
    nargs='?',
    const='',
    metavar='ROW',
    help='compares times of a step with those of a row, or of the baseline',
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
  """Prints the table of all runs; it and its pictures go to the first folder.

  Returns:
    The exit code: that of a broken config if a run was left out.

  Raises:
    ValueError: a folder is none, there are no runs, a sweep.json is broken, or
      there is no row to compare the `cost` with,
      or `keep` has other runs.
    OSError: the first folder, or `keep`, takes no files.
  """
  wrong = [folder for folder in folders if not folder.is_dir()]
  runs, broken = find_runs([] if wrong else folders)
  if not runs and not broken:
    names = ', '.join(map(str, wrong or folders))
    raise ValueError(f'no folder with runs: {names}')
  for sentence in broken:
    log_line(f'error: left out: {sentence}')
  groups = group_runs(runs, folders)
  places = [*folders, *(run.path.parent for run in runs)]
  notes = list(dict.fromkeys(read_sweep(place).note for place in places))
  notes = [note for note in notes if note]
  notes += [] if cost is None else add_cost(groups, cost)
  lines = make_table(groups, columns)
  text = markdown(lines) + ''.join(f'\n{note}\n' for note in notes)
  print(text, end='')
  write_text(folders[0] / 'report.md', text)
  if keep is not None:
    log_line(keep_runs(runs, folders, keep))
  try:
    draw_table(lines, folders[0] / 'table.png')
    plot_curves(groups, folders[0] / 'curves.png')
  except ModuleNotFoundError:
    log_line('table.png and curves.png need matplotlib: the extra `plots`')
  return ExitCode.CONFIG if broken else 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
