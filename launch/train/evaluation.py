"""Evaluations: begun while the device is busy, read when it has more to do."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from launch.shell.exit_codes import ExitCode, classify_errors
from launch.task import Evaluate

Results = dict[str, float]


def begin(
  evaluators: Mapping[str, Evaluate], params: Any, model_state: Any
) -> Callable[[], Results]:
  """Begins all evaluations of a state, which may be donated afterwards.

  Returns:
    A function that waits for the metrics, by `evaluator/metric`. What an
    evaluator raises is raised there: by then the state is saved.
  """
  begun: dict[str, Any] = {}
  failed = None
  with jax.transfer_guard('allow'):
    try:
      for name, evaluate in evaluators.items():
        with classify_errors(
          ExitCode.DATA
        ):  # An evaluation may read its examples.
          begun[name] = evaluate(params, model_state)
    except Exception as error:
      failed = error

  def finish() -> Results:
    if failed is not None:
      raise failed
    metrics: Results = {}
    with jax.transfer_guard('allow'):
      for name, results in begun.items():
        found: Any = results() if callable(results) else results
        for metric, value in found.items():
          metrics[f'{name}/{metric}'] = float(value)
    return metrics

  return finish
