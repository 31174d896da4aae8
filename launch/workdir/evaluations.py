"""What `launch.evaluate` found of a run: `workdir/evaluations.jsonl`.

A line is an evaluator's answer at a step, with the options that it had:

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
# Options that say how an evaluator goes about it, not what it measures.
_HOW = ('batch_size',)
_SECONDS = 60  # to wait for another process that adds its own


class Evaluation(NamedTuple):
  """The answer of one evaluator.

  Attributes:
    step: of the checkpoint that was evaluated.
    epoch: the epochs done then.
    evaluator: its name.
    options: its block of `config.evals`, by dotted path; {} if it has none.
    metrics: by name, without that of the evaluator.
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
    evals: options by evaluator: the block `config.evals`.
  """
  found: dict[str, dict[str, float]] = {}
  for metric, value in results.items():
    name, _, rest = metric.partition('/')
    found.setdefault(name, {})[rest] = value
  return [
    Evaluation(step, epoch, name, flatten(evals.get(name, {})), metrics)
    for name, metrics in found.items()
  ]


def add_evaluations(
  workdir: pathlib.Path, evaluations: Iterable[Evaluation]
) -> None:
  """Adds lines to the file of a run; of two processes at once none loses any.

  Raises:
    ValueError: another process keeps the file for itself.
    OSError: it cannot be written; it is as it was.
  """
  path = workdir / FILE
  new = ''.join(json.dumps(line._asdict()) + '\n' for line in evaluations)
  with hold_lock(workdir, name=f'{FILE}.lock', seconds=_SECONDS):
    old = path.read_text(errors='replace') if path.exists() else ''
    if old and not old.endswith('\n'):
      old += '\n'
    write_text(path, old + new)


def read_evaluations(workdir: pathlib.Path) -> list[Evaluation]:
  """Returns the evaluations of a run, oldest first.

  A line that is none is left out with a warning: so are those without options,
  from before they were kept, as nobody can say what they measured.
  """
  path = workdir / FILE
  found = []
  if path.exists():
    for line in path.read_text(errors='replace').splitlines():
      try:
        found.append(_evaluation(json.loads(line)))
      except (ValueError, TypeError, KeyError, AttributeError):
        logging.warning('%s: left out the line %.60r', path, line)
  return found


def _evaluation(content: Any) -> Evaluation:
  found = Evaluation(**content)
  metrics = {str(k): float(v) for k, v in found.metrics.items()}
  if not isinstance(found.evaluator, str) or not isinstance(
    found.options, dict
  ):
    raise TypeError(found)
  step, epoch = int(found.step), float(found.epoch)
  return Evaluation(step, epoch, found.evaluator, found.options, metrics)


def label(evaluation: Evaluation, fields: Mapping[str, Any]) -> str:
  """Returns the name under which a report shows an evaluation.

  It is that of the evaluator, and in brackets the options in which it differs
  from the run's own: all, where the run has no such evaluator.

  Args:
    evaluation: what was found later.
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
    if name not in _HOW and same(name, options) != same(name, own)
  ]
  joined = f'({",".join(differ)})' if differ else ''
  return evaluation.evaluator + joined


def _show(value: Any) -> str:
  if isinstance(value, float):
    return f'{value:.4g}'
  if isinstance(value, list | tuple):
    return '+'.join(map(_show, value))
  # Of a path its name is enough to tell, and shows nobody's folders.
  text = str(value)
  return pathlib.PurePath(text).name if text.startswith(('/', '~')) else text


def with_evaluations(
  final: Mapping[str, float],
  evaluations: Iterable[Evaluation],
  fields: Mapping[str, Any],
) -> dict[str, float]:
  """Returns what a run ended with, and what was found of that state later.

  What an evaluator says last takes the place of all that it said before.

  Args:
    final: metrics by `evaluator/metric`.
    evaluations: of the same step, oldest first.
    fields: the config of the run by dotted path.
  """
  metrics = dict(final)
  for evaluation in evaluations:
    name = label(evaluation, fields)
    kept = {k: v for k, v in metrics.items() if not k.startswith(f'{name}/')}
    found = {f'{name}/{k}': v for k, v in evaluation.metrics.items()}
    metrics = kept | found
  return metrics
