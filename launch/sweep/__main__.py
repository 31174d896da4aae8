"""Sweep: `python -m launch.sweep --config=FILE.py[:ARG] --workdir=DIR`.

Trains all entries of a config file, one after the other, in one process;
`launch.sweep.entries` describes how the file defines them. Each entry is a run
in `DIR/<its name>`: finished runs are skipped and stopped runs resume.
`--entries=PATTERN` selects entries by name. Several processes may share the
folder: an entry that another process trains is skipped.
`--slurm=timeout_min=600,partition=gpu` submits each entry as a job of SLURM.
"""

from launch.shell.console import open_streams
from launch.shell.signals import stop_requests

if __name__ == '__main__':
  open_streams()
  with stop_requests(at_once=True):
    from launch.cli import run
    from launch.sweep.entries import run_sweep

    run(run_sweep)
