"""Metrics of a run on disk: JSON lines always, TensorBoard beside them."""

import contextlib
import json
import os
import pathlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
from absl import logging

from jaxmix.files.atomic import write_text

Row = dict[str, Any]
# What a row holds besides its metrics.
_NOT_METRICS = ('step', 'epoch', 'final')


class MetricWriter:
  """Writes `workdir/metrics.jsonl`, one row at a time, from process 0 only.

  A row is `{"step": 400, "epoch": 1.0, "test/accuracy": 0.5}`; the metrics of
  training are `train/...`, times and rates `time/...`, and all others come from
  the evaluators. The row that ends a run has `"final": true`.

  What the disk does not take is kept and written with the next row.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    step: int,
    tensorboard: bool,
    *,
    again: bool = True,
    tell: Callable[[str], None] = logging.warning,
  ):
    """Opens the file of a run that goes on at `step`.

    Rows of later steps are dropped, since they will come again.

    Args:
      workdir: the folder of the run.
      step: the number of steps done.
      tensorboard: whether to write TensorBoard files to `workdir/tensorboard`
        too, if tensorboardX is installed.
      again: whether `step` will be evaluated again; its evaluations are dropped
        then, and else kept.
      tell: shows a warning to people.
    """
    self._path = workdir / 'metrics.jsonl'
    self._tell = tell
    self._lock = threading.Lock()
    self._waiting = b''
    self._told = False
    self._board = None
    self._writes = jax.process_index() == 0
    if not self._writes:
      return
    kept = [
      row
      for row in read_metrics(workdir)
      if row['step'] < step
      or (row['step'] == step and (is_training(row) or not again))
    ]
    for row in kept:
      row.pop('final', None)  # It was not the end.
    text = ''.join(json.dumps(row) + '\n' for row in kept)
    self._keep_what_is_no_row()
    write_text(self._path, text)
    self._written = bytearray(text.encode())
    if tensorboard:
      self._board = _open_tensorboard(workdir / 'tensorboard', step)

  def _keep_what_is_no_row(self) -> None:
    """Copies the file if it has other lines than a last one cut short."""
    if not self._path.exists():
      return
    content = self._path.read_bytes()
    lines = content.decode(errors='replace').splitlines()[:-1]
    if any(not _is_row(_parse(line)) for line in lines):
      aside = self._path.with_name(f'{self._path.name}.{time.time_ns()}')
      aside.write_bytes(content)
      self._tell(
        f'warning: {self._path} has lines that are no rows; they are left out, '
        f'and kept in {aside}'
      )

  def write(
    self,
    step: int,
    epoch: float,
    metrics: Mapping[str, float],
    final: bool = False,
  ) -> None:
    """Appends one row; see `sync` for whether it is on disk."""
    if not self._writes:
      return
    row: Row = {'step': step, 'epoch': epoch}
    if final:
      row['final'] = True
    with self._lock:
      self._waiting += f'{json.dumps(row | dict(metrics))}\n'.encode()
      try:
        self._append(durable=False)
        self._told = False
      except OSError as error:
        if not self._told:
          self._tell(f'warning: rows of metrics wait in memory: {error}')
        self._told = True
    self._write_board(step, metrics)

  def sync(self) -> None:
    """Has all rows reach the disk.

    Raises:
      OSError: it does not take them.
    """
    if self._writes:
      with self._lock:
        self._append(durable=True)

  def _append(self, *, durable: bool) -> None:
    # Opened anew each time: a file that somebody removed would take rows that
    # nobody ever sees.
    if not self._is_ours():
      self._restore()
    descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
    try:
      while self._waiting:
        # A disk may take the first half of a row now and the rest later.
        size = os.write(descriptor, self._waiting)
        self._written += self._waiting[:size]
        self._waiting = self._waiting[size:]
      if durable:
        os.fsync(descriptor)
    finally:
      os.close(descriptor)

  def _is_ours(self) -> bool:
    try:
      return self._path.stat().st_size == len(self._written)
    except FileNotFoundError:
      return False

  def _restore(self) -> None:
    """Writes the rows again; what somebody made of the file is put aside."""
    # The folder may be gone with its disk, and not to be made again.
    if not (self._path.parent / 'config.json').exists():
      raise FileNotFoundError(
        f'No such file or directory any more: {self._path.parent}'
      )
    if self._path.exists():
      aside = self._path.with_name(f'{self._path.name}.{time.time_ns()}')
      self._path.rename(aside)
      self._tell(
        f'warning: somebody else changed {self._path}: that is now {aside}'
      )
    write_text(self._path, self._written.decode())

  def close(self) -> None:
    """Closes the files."""
    if self._board is not None:
      with contextlib.suppress(OSError):
        self._board.close()

  def _write_board(self, step: int, metrics: Mapping[str, float]) -> None:
    if self._board is None:
      return
    try:
      self._board.write(step, metrics)
    except OSError as error:
      self._board = None
      self._tell(f'warning: no more TensorBoard files: {error}')


def read_metrics(
  workdir: pathlib.Path, name: str = 'metrics.jsonl'
) -> list[Row]:
  """Returns the rows of a run, oldest first; none if it has not begun.

  A line that is no row, such as the last if a crash cut it short, is left out.
  """
  path = workdir / name
  rows = []
  if path.exists():
    for line in path.read_text(errors='replace').splitlines():
      row = _parse(line)
      if _is_row(row):
        rows.append(row)
      else:
        logging.warning('%s: left out the line %.60r', path, line)
  return rows


def _parse(line: str) -> Any:
  try:
    return json.loads(line)
  except ValueError:
    return None


def _is_row(content: Any) -> bool:
  return (
    isinstance(content, dict)
    and all(isinstance(value, int | float) for value in content.values())
    and {'step', 'epoch'} <= content.keys()
    and content['step'] >= 0
  )


def keep_rows(workdir: pathlib.Path, tell: Callable[[str], None]) -> None:
  """Keeps a copy of the rows of a run that begins anew, and tells of it."""
  rows = read_metrics(workdir)
  if rows:
    kept = workdir / 'metrics.jsonl.old'
    write_text(kept, ''.join(json.dumps(row) + '\n' for row in rows))
    tell(
      f'warning: {workdir} has rows of metrics up to step {rows[-1]["step"]} '
      f'and no checkpoint: it begins at step 0 again; the rows are in {kept}'
    )


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


class _Board:
  """A TensorBoard file, written in this thread.

  tensorboardX's own writer has a thread that dies of a full disk, and whoever
  writes ten rows more waits for ever.
  """

  def __init__(self, folder: pathlib.Path, step: int):
    from tensorboardX import event_file_writer, summary
    from tensorboardX.proto import event_pb2

    events: Any = event_pb2
    self._event = events.Event
    self._scalar = summary.scalar
    folder.mkdir(exist_ok=True)
    self._file = event_file_writer.EventsWriter(str(folder / 'events'))
    # What an earlier process wrote of later steps is not shown.
    log = events.SessionLog
    self._put(step + 1, session_log=log(status=log.START))
    self._file.flush()

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
      self._put(step, summary=self._scalar(name, value))
    self._file.flush()

  def close(self) -> None:
    self._file.close()

  def _put(self, step: int, **what: Any) -> None:
    self._file.write_event(
      self._event(step=step, wall_time=time.time(), **what)
    )


def _open_tensorboard(folder: pathlib.Path, step: int) -> _Board | None:
  try:
    return _Board(folder, step)
  except ModuleNotFoundError:
    logging.warning('config.tensorboard=True, but tensorboardX is missing')
    return None
