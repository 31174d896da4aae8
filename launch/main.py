"""Trains a task: `python -m launch.main --config=FILE.py[:ARG] --workdir=DIR`.

Every field of the config is a flag, such as --config.optimizer.lr=0.1. The same
command goes on with a run that was stopped. docs/reliability.md lists the exit
codes.

This file imports next to nothing, so that a signal finds someone to listen
while jax is imported; `launch.cli` has the rest.
"""

from launch.shell.console import open_streams
from launch.shell.signals import stop_requests

if __name__ == '__main__':
  open_streams()
  with stop_requests(at_once=True):
    from launch.cli import run, train

    run(train)
