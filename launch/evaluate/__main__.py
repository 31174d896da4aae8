"""Evaluation of a checkpoint: `python -m launch.evaluate --config=... ...`.

The flags and the config are those of `launch.main`, except that the part
`evals` of the config may differ from that of the run. The results are printed
and appended to `workdir/evaluations.jsonl`, which `launch.report` reads.
"""

from launch.shell.console import open_streams
from launch.shell.signals import stop_requests

if __name__ == '__main__':
  open_streams()
  with stop_requests(at_once=True):
    from launch.cli import run
    from launch.evaluate.checkpoint import evaluate

    run(evaluate)
