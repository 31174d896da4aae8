"""Metrics of a run on disk: JSON lines always, TensorBoard beside them."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging

from launch.config import write_text

Row = dict[str, Any]
# What a row holds besides its metrics.
_NOT_METRICS = ('step', 'epoch', 'final')


class MetricWriter:
  """Writes `workdir/metrics.jsonl`, one row at a time, from process 0 only.

  A row is `{"step": 400, "epoch": 1.0, "test/accuracy": 0.5}`; the metrics of
  training are `train/...`, times and rates `time/...`, and all others come from
  the evaluators. The row that ends a run has `"final": true`.
  """

  def __init__(self, workdir: pathlib.Path, step: int, tensorboard: bool):
    """Opens the file of a run that goes on at `step`.

    Rows of later steps are dropped, and evaluations at `step` itself, since
    they will come again.

    Args:
      workdir: the folder of the run.
      step: the number of steps done.
      tensorboard: whether to write TensorBoard files to `workdir/tensorboard`
        too, if tensorboardX is installed.
    """
    self._file = self._board = None
    if jax.process_index():
      return
    path = workdir / 'metrics.jsonl'
    kept = [
      row
      for row in read_metrics(workdir)
      if row['step'] < step or (row['step'] == step and is_training(row))
    ]
    write_text(path, ''.join(json.dumps(row) + '\n' for row in kept))
    self._file = path.open('a', buffering=1)
    if tensorboard:
      self._board = _open_tensorboard(workdir / 'tensorboard', step)

  def write(
    self,
    step: int,
    epoch: float,
    metrics: Mapping[str, float],
    final: bool = False,
  ) -> None:
    """Appends one row; it is on disk when this returns."""
    if self._file is None:
      return
    row: Row = {'step': step, 'epoch': epoch}
    if final:
      row['final'] = True
    self._file.write(json.dumps(row | dict(metrics)) + '\n')
    if self._board is not None:
      for name, value in metrics.items():
        self._board.add_scalar(name, value, step)

  def close(self) -> None:
    """Closes the files."""
    for file in (self._file, self._board):
      if file is not None:
        file.close()


def read_metrics(workdir: pathlib.Path) -> list[Row]:
  """Returns the rows of a run, oldest first; none if it has not begun.

  A last line that a crash cut short is left out.
  """
  path = workdir / 'metrics.jsonl'
  rows = []
  if path.exists():
    for line in path.read_text().splitlines():
      try:
        rows.append(json.loads(line))
      except json.JSONDecodeError:
        logging.warning('%s: left out the line %.60r', path, line)
  return rows


def evaluation(row: Row) -> dict[str, float]:
  """Returns the metrics of a row that evaluators gave."""
  return {
    name: value
    for name, value in row.items()
    if name not in _NOT_METRICS and not name.startswith(('train/', 'time/'))
  }


def is_training(row: Row) -> bool:
  """Says whether the row was written while training, not by an evaluation."""
  return not evaluation(row) and 'final' not in row


def final_metrics(workdir: pathlib.Path) -> dict[str, float] | None:
  """Returns the evaluation that ended a run, None if it has not ended."""
  for row in reversed(read_metrics(workdir)):
    if row.get('final'):
      return evaluation(row)
  return None


def _open_tensorboard(folder: pathlib.Path, step: int):
  try:
    import tensorboardX
  except ModuleNotFoundError:
    logging.warning('config.tensorboard=True, but tensorboardX is missing')
    return None
  return tensorboardX.SummaryWriter(str(folder), purge_step=step + 1)
