"""Metric records: `workdir/metrics.jsonl`, and optional TensorBoard files."""

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

MetricRecord = dict[str, Any]
# The entries of a record that are not metrics.
_NOT_METRICS = ('step', 'epoch', 'final')


class MetricWriter:
  """Writes metric records to `workdir/metrics.jsonl`, from process 0 only.

  A record is `{"step": 400, "epoch": 1.0, "test/accuracy": 0.5}`; metrics of
  training are `train/...`, times and rates `time/...`, and all others come from
  the evaluators. The last record of a run has `"final": true`.

  Records that cannot be written are kept and written with the next one.
  """

  def __init__(
    self,
    workdir: pathlib.Path,
    step: int,
    tensorboard: bool,
    *,
    again: bool = True,
    warn: Callable[[str], None] = logging.warning,
  ):
    """Opens the file of a run that resumes at `step`.

    Records of later steps are dropped, because they will be written again.

    Args:
      workdir: the folder of the run.
      step: the number of steps done.
      tensorboard: whether to write TensorBoard files to `workdir/tensorboard`
        too, if tensorboardX is installed.
      again: whether `step` will be evaluated again; if so, the records of its
        evaluations are dropped.
      warn: shows a warning to the user.
    """
    self._path = workdir / 'metrics.jsonl'
    self._warn = warn
    self._lock = threading.Lock()
    self._unwritten = b''
    self._warned = False
    self._board = None
    self._writes = jax.process_index() == 0
    if not self._writes:
      return
    kept = [
      record
      for record in read_metrics(workdir)
      if record['step'] < step
      or (record['step'] == step and (is_training(record) or not again))
    ]
    for record in kept:
      record.pop('final', None)  # The run continues.
    text = ''.join(json.dumps(record) + '\n' for record in kept)
    self._back_up_invalid_lines()
    write_text(self._path, text)
    self._written = bytearray(text.encode())
    if tensorboard:
      self._board = _open_tensorboard(workdir / 'tensorboard', step)

  def _back_up_invalid_lines(self) -> None:
    """Copies the file if a line other than the last is invalid.

    The last line may be incomplete after a crash.
    """
    if not self._path.exists():
      return
    content = self._path.read_bytes()
    lines = content.decode(errors='replace').splitlines()[:-1]
    if any(not _is_record(_parse(line)) for line in lines):
      backup = self._path.with_name(f'{self._path.name}.{time.time_ns()}')
      backup.write_bytes(content)
      self._warn(
        f'warning: {self._path} has invalid lines, which are skipped; the '
        f'original file is now {backup}'
      )

  def write(
    self,
    step: int,
    epoch: float,
    metrics: Mapping[str, float],
    final: bool = False,
  ) -> None:
    """Appends one record; it may reach the disk only at the next `sync`."""
    if not self._writes:
      return
    record: MetricRecord = {'step': step, 'epoch': epoch}
    if final:
      record['final'] = True
    with self._lock:
      self._unwritten += f'{json.dumps(record | dict(metrics))}\n'.encode()
      try:
        self._append(durable=False)
        self._warned = False
      except OSError as error:
        if not self._warned:
          self._warn(
            f'warning: metrics are kept in memory, not on disk: {error}'
          )
        self._warned = True
    self._write_board(step, metrics)

  def sync(self) -> None:
    """Writes all records to the disk durably.

    Raises:
      OSError: they cannot be written.
    """
    if self._writes:
      with self._lock:
        self._append(durable=True)

  def _append(self, *, durable: bool) -> None:
    # Opened again each time: records written to a file that another process
    # removed would be lost.
    if not self._is_unchanged():
      self._restore()
    descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)
    try:
      while self._unwritten:
        # A full disk may take only the first part of a record.
        size = os.write(descriptor, self._unwritten)
        self._written += self._unwritten[:size]
        self._unwritten = self._unwritten[size:]
      if durable:
        os.fsync(descriptor)
    finally:
      os.close(descriptor)

  def _is_unchanged(self) -> bool:
    try:
      return self._path.stat().st_size == len(self._written)
    except FileNotFoundError:
      return False

  def _restore(self) -> None:
    """Writes all records again, after renaming a file that was changed."""
    # If the folder is gone, with its disk for example, it is not recreated.
    if not (self._path.parent / 'config.json').exists():
      raise FileNotFoundError(
        f'No such file or directory (it was removed): {self._path.parent}'
      )
    if self._path.exists():
      backup = self._path.with_name(f'{self._path.name}.{time.time_ns()}')
      self._path.rename(backup)
      self._warn(
        f'warning: another process changed {self._path}; its version is now '
        f'{backup}'
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
      self.close()
      self._board = None
      self._warn(f'warning: TensorBoard files are no longer written: {error}')


def read_metrics(
  workdir: pathlib.Path, name: str = 'metrics.jsonl'
) -> list[MetricRecord]:
  """Returns the records of a run, oldest first; [] if it has not started.

  Invalid lines, such as a last line that a crash cut short, are skipped.
  """
  path = workdir / name
  records = []
  if path.exists():
    for line in path.read_text(errors='replace').splitlines():
      record = _parse(line)
      if _is_record(record):
        records.append(record)
      else:
        logging.warning('%s: skipped the invalid line %.60r', path, line)
  return records


def _parse(line: str) -> Any:
  try:
    return json.loads(line)
  except ValueError:
    return None


def _is_record(content: Any) -> bool:
  return (
    isinstance(content, dict)
    and all(isinstance(value, int | float) for value in content.values())
    and {'step', 'epoch'} <= content.keys()
    and content['step'] >= 0
  )


def back_up_records(workdir: pathlib.Path, warn: Callable[[str], None]) -> None:
  """Backs up the records of a run that restarts at step 0, with a warning."""
  records = read_metrics(workdir)
  if records:
    backup = workdir / 'metrics.jsonl.old'
    write_text(backup, ''.join(json.dumps(x) + '\n' for x in records))
    warn(
      f'warning: {workdir} has metrics up to step {records[-1]["step"]} but no '
      f'checkpoint: it restarts at step 0; the old metrics are in {backup}'
    )


def evaluation(record: MetricRecord) -> dict[str, float]:
  """Returns the metrics of a record that come from evaluators."""
  return {
    name: value
    for name, value in record.items()
    if name not in _NOT_METRICS and not name.startswith(('train/', 'time/'))
  }


def is_training(record: MetricRecord) -> bool:
  """Returns whether a record is from training, not from an evaluation."""
  return not evaluation(record) and 'final' not in record


def final_metrics(workdir: pathlib.Path) -> dict[str, float] | None:
  """Returns the last evaluation of a finished run; None if unfinished."""
  for record in reversed(read_metrics(workdir)):
    if record.get('final'):
      return evaluation(record)
  return None


class _Board:
  """A TensorBoard file that is written in the calling thread.

  The writer of tensorboardX has a thread that dies if the disk is full, after
  which every caller blocks forever.
  """

  def __init__(self, folder: pathlib.Path, step: int):
    from tensorboardX import event_file_writer, summary
    from tensorboardX.proto import event_pb2

    events: Any = event_pb2
    self._event = events.Event
    self._scalar = summary.scalar
    folder.mkdir(exist_ok=True)
    self._file = event_file_writer.EventsWriter(str(folder / 'events'))
    # TensorBoard then hides what an earlier process wrote of later steps.
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
    logging.warning(
      'config.tensorboard=True, but tensorboardX is not installed'
    )
    return None
