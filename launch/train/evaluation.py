"""Evaluation of a state: queued on the device, read when it has more work."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from launch.shell.exit_codes import ExitCode, classify_errors
from launch.task import Evaluate

Results = dict[str, float]


def queue_evaluation(
  evaluators: Mapping[str, Evaluate], params: Any, model_state: Any
) -> Callable[[], Results]:
  """Queues all evaluations of a state, which may be donated afterwards.

  Returns:
    A function that waits for the metrics and returns them by
    `evaluator/metric`. It also raises what an evaluator raised, so that the
    state can be saved first.
  """
  queued: dict[str, Any] = {}
  failure = None
  with jax.transfer_guard('allow'):
    try:
      for name, evaluate in evaluators.items():
        # An evaluator may read its examples here.
        with classify_errors(ExitCode.DATA):
          queued[name] = evaluate(params, model_state)
    except Exception as error:
      failure = error

  def read() -> Results:
    if failure is not None:
      raise failure
    results: Results = {}
    with jax.transfer_guard('allow'):
      for name, value in queued.items():
        metrics: Any = value() if callable(value) else value
        for metric, number in metrics.items():
          results[f'{name}/{metric}'] = float(number)
    return results

  return read
