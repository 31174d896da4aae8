"""Evaluations: results of `launch.evaluate` in `workdir/evaluations.jsonl`.

A line holds the metrics of one evaluator at a step, and its options:

  {"step": 400, "epoch": 1.0, "evaluator": "fgsm",
   "options": {"batch_size": 500, "epsilon": 0.0157}, "metrics": {"top1": 0.2}}
"""

import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from absl import logging

from jaxmix.files.atomic import write_text
from launch.config import flatten
from launch.workdir.identity import field_identity
from launch.workdir.lock import hold_lock

FILE = 'evaluations.jsonl'
# Options that do not affect what an evaluator measures.
_IRRELEVANT = ('batch_size',)
_LOCK_SECONDS = 60  # to wait for another process that writes the file


class Evaluation(NamedTuple):
  """The result of one evaluator.

  Attributes:
    step: the step of the checkpoint that was evaluated.
    epoch: the number of epochs at that step.
    evaluator: the name of the evaluator.
    options: the fields of its part of `config.evals`, by dotted path; may be
      empty.
    metrics: values by name, without the name of the evaluator.
  """

  step: int
  epoch: float
  evaluator: str
  options: dict[str, Any]
  metrics: dict[str, float]


def by_evaluator(
  step: int,
  epoch: float,
  results: Mapping[str, float],
  evals: Mapping[str, Any],
) -> list[Evaluation]:
  """Returns one evaluation of each evaluator in `results`.

  Args:
    step: as in `Evaluation`.
    epoch: as in `Evaluation`.
    results: metrics by `evaluator/metric`.
    evals: options by evaluator: `config.evals`.
  """
  by_name: dict[str, dict[str, float]] = {}
  for metric, value in results.items():
    name, _, rest = metric.partition('/')
    by_name.setdefault(name, {})[rest] = value
  return [
    Evaluation(step, epoch, name, flatten(evals.get(name, {})), metrics)
    for name, metrics in by_name.items()
  ]


def add_evaluations(
  workdir: pathlib.Path, evaluations: Iterable[Evaluation]
) -> None:
  """Appends lines to the file of a run; several processes may do so at once.

  Raises:
    ValueError: another process holds the lock of the file for too long.
    OSError: the file cannot be written; it is unchanged.
  """
  path = workdir / FILE
  new = ''.join(json.dumps(line._asdict()) + '\n' for line in evaluations)
  with hold_lock(workdir, name=f'{FILE}.lock', seconds=_LOCK_SECONDS):
    old = path.read_text(errors='replace') if path.exists() else ''
    if old and not old.endswith('\n'):
      old += '\n'
    write_text(path, old + new)


def read_evaluations(workdir: pathlib.Path) -> list[Evaluation]:
  """Returns the evaluations of a run, oldest first.

  Invalid lines are skipped with a warning. So are lines without options, which
  older versions wrote: what they measured is unknown.
  """
  path = workdir / FILE
  evaluations = []
  if path.exists():
    for line in path.read_text(errors='replace').splitlines():
      try:
        evaluations.append(_parse(json.loads(line)))
      except (ValueError, TypeError, KeyError, AttributeError):
        logging.warning('%s: skipped the invalid line %.60r', path, line)
  return evaluations


def _parse(content: Any) -> Evaluation:
  parsed = Evaluation(**content)
  metrics = {str(k): float(v) for k, v in parsed.metrics.items()}
  name, options = parsed.evaluator, parsed.options
  if not isinstance(name, str) or not isinstance(options, dict):
    raise TypeError(parsed)
  return Evaluation(
    int(parsed.step), float(parsed.epoch), name, options, metrics
  )


def label(evaluation: Evaluation, fields: Mapping[str, Any]) -> str:
  """Returns the name under which a report shows an evaluation.

  It is the name of the evaluator, followed in parentheses by the options that
  differ from those in the config of the run; all options, if the config has no
  such evaluator.

  Args:
    evaluation: a later evaluation of the run.
    fields: the config of the run by dotted path.

  Examples:
    >>> fields = {'evals.fgsm.epsilon': 0.5, 'evals.fgsm.batch_size': 10}
    >>> options = {'epsilon': 0.25, 'batch_size': 20}
    >>> label(Evaluation(4, 1.0, 'fgsm', options, {}), fields)
    'fgsm(epsilon=0.25)'
    >>> options = {'epsilon': 0.5, 'batch_size': 20}
    >>> label(Evaluation(4, 1.0, 'fgsm', options, {}), fields)
    'fgsm'
  """
  prefix = f'evals.{evaluation.evaluator}.'
  own = {
    name.removeprefix(prefix): value
    for name, value in fields.items()
    if name.startswith(prefix)
  }
  options = evaluation.options

  def same(name: str, values: Mapping[str, Any]) -> str:
    # A tuple comes back from JSON as a list.
    return json.dumps(field_identity(prefix + name, values.get(name)))

  differ = [
    f'{name}={_show(options.get(name, "absent"))}'
    for name in dict.fromkeys([*options, *own])
    if name not in _IRRELEVANT and same(name, options) != same(name, own)
  ]
  joined = f'({",".join(differ)})' if differ else ''
  return evaluation.evaluator + joined


def _show(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.4g}'
  if isinstance(value, list | tuple):
    return '+'.join(map(_show, value))
  # The last part of a path is enough, and reveals no folders.
  text = str(value)
  return pathlib.PurePath(text).name if text.startswith(('/', '~')) else text


def with_evaluations(
  final: Mapping[str, float],
  evaluations: Iterable[Evaluation],
  fields: Mapping[str, Any],
) -> dict[str, float]:
  """Returns the final metrics of a run, updated by later evaluations.

  The newest evaluation with a name replaces all earlier metrics of that name.

  Args:
    final: metrics by `evaluator/metric`.
    evaluations: evaluations of the same step, oldest first.
    fields: the config of the run by dotted path.
  """
  metrics = dict(final)
  for evaluation in evaluations:
    name = label(evaluation, fields)
    kept = {k: v for k, v in metrics.items() if not k.startswith(f'{name}/')}
    new = {f'{name}/{k}': v for k, v in evaluation.metrics.items()}
    metrics = kept | new
  return metrics
