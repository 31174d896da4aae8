"""Tables and curves of finished runs: `python -m launch.report DIR [DIR2 ...]`.

`--columns='test/*/recall@10'` shows the metrics whose names match. By default
these are the metrics that the paper reports, if the sweep has its numbers, and
otherwise all.
`--cost` after the folders adds the relative step time: the time of a step
divided by that of the baseline, the entry that the sweep's config names as its
BASELINE; `--cost=ENTRY` divides by that of another entry. Only runs on the same
type of machine are compared, and the report names it.
`--keep=DIR` copies the finished runs: what `launch.report DIR` needs to print
the same table, without checkpoints and without paths of this machine.

Every folder at or below DIR with a config.json is a run. Runs whose configs
differ only in the seed are one line: mean ± sample standard deviation (number
of runs). An unfinished run is counted but has no value: `–`. Of a sweep all
entries are shown, started or not, and beside each number that of the paper, if
the config file has it, and the difference. Fractions such as top1 are in per
cent. A run that cannot be read is named on stderr and skipped; the exit code is
then 8.

The table is written to `DIR/report.md` and `DIR/table.png`, the curves to
`DIR/curves.png`.
"""

import sys

from launch.report.cli import main

if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
