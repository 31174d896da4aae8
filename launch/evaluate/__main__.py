"""Evaluates what a run has saved: `python -m launch.evaluate --config=... ...`.

The flags are those of `launch.main`, and so is the config, but for its block
`evals`, which may name other evaluations than those that the run was trained
with. The results are printed and added to `workdir/evaluations.jsonl`, where
`launch.report` finds them.
"""

from launch.shell.console import open_streams
from launch.shell.signals import stop_requests

if __name__ == '__main__':
  open_streams()
  with stop_requests(at_once=True):
    from launch.cli import run
    from launch.evaluate.checkpoint import evaluate

    run(evaluate)
