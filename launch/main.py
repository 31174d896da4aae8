"""Trainer: `python -m launch.main --config=FILE.py[:ARG] --workdir=DIR`.

Every field of the config is a flag, such as --config.optimizer.lr=0.1; a list
is written --config.mix.candidates=mixup,fmix. The same command resumes a run
that was stopped. docs/reliability.md lists the exit codes.

This file imports almost nothing, so that signals are handled while jax is
imported; the rest is in `launch.cli`.
"""

from launch.shell.console import open_streams
from launch.shell.signals import stop_requests

if __name__ == '__main__':
  open_streams()
  with stop_requests(at_once=True):
    from launch.cli import run, train

    run(train)
