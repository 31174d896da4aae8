"""Runs every row of a table, one after the other, in one process.

`python -m launch.sweep --config=FILE.py[:ARG] --workdir=DIR`;
`launch.sweep.entries` says what the rows of a config file are. Each is a run in
`DIR/<its name>`: what is finished is skipped, what was stopped goes on.
`--rows=PATTERN` runs those of matching names. Several processes may share the folder: a row that another one
trains is passed over. `--slurm=timeout_min=600,partition=gpu` has a cluster run
them, each as a job of its own.
"""

from launch.shell.console import open_streams
from launch.shell.signals import stop_requests

if __name__ == '__main__':
  open_streams()
  with stop_requests(at_once=True):
    from launch.cli import run
    from launch.sweep.entries import run_sweep

    run(run_sweep)
