"""Evaluations: begun while the device is busy, read when it has more to do."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from launch.state import TrainState
from launch.task import Evaluate

Results = dict[str, float]


def begin(
  evaluators: Mapping[str, Evaluate], state: TrainState
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
        begun[name] = evaluate(state.params, state.model_state)
    except Exception as error:
      failed = error

  def finish() -> Results:
    if failed is not None:
      raise failed
    with jax.transfer_guard('allow'):
      return {
        f'{name}/{metric}': float(value)
        for name, results in begun.items()
        for metric, value in (
          results() if callable(results) else results
        ).items()
      }

  return finish
