"""Metrics log: training metrics read one dispatch late, and evaluations."""

import time
import warnings
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from launch.train.compilations import CompilationCounter
from launch.train.progress import Progress, Throughput, show_metrics
from launch.train.schedule import StepSchedule
from launch.workdir.metrics import MetricWriter


class MetricsLog:
  """Writes the metrics of a run to its files and shows them to people.

  The metrics of a dispatch are read while the device runs the next one. A
  record holds the means over the steps of the chunk that ends there (of the
  learning rate, the last value), so it does not depend on the step from which a
  run was resumed; and the time that this process spent, see docs/running.md.
  """

  def __init__(
    self,
    schedule: StepSchedule,
    writer: MetricWriter,
    progress: Progress,
    compilations: CompilationCounter,
    *,
    log_every: int,
    compiled_by: float,
    checked_values: Sequence[str],
    max_skipped: int,
  ):
    """Creates a log.

    Args:
      schedule: the steps of the run.
      writer: writes the metric records.
      progress: shows the progress to people.
      compilations: counts the compiled programs.
      log_every: steps between two records.
      compiled_by: the step from which on nothing should be compiled.
      checked_values: see `launch.train.step.checked_values`.
      max_skipped: number of steps in a row that may be skipped.
    """
    self._schedule = schedule
    self._writer = writer
    self._progress = progress
    self._compilations = compilations
    self._log_every = log_every
    self._compiled_by = compiled_by
    self._checked_values = checked_values
    self._max_skipped = max_skipped
    self._skipped = 0
    self._throughput = Throughput()
    self._chunk_sizes: set[int] = set()
    self._pending: dict[int, Mapping[str, jax.Array]] = {}
    self._opened: float | None = time.perf_counter()

  def is_first_of_size(self, steps: int) -> bool:
    """Returns whether a chunk is the first of its size, and is compiled."""
    first = steps not in self._chunk_sizes
    self._chunk_sizes.add(steps)
    return first

  def dispatched(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
    """Keeps the metrics of a dispatch that ends at `step`."""
    self._pending[step] = metrics

  def read(self, step: int) -> None:
    """Reads and writes the metrics of the dispatch that ended at `step`.

    Raises:
      FloatingPointError: more than `max_skipped` steps in a row were not
        finite.
    """
    metrics = self._pending.pop(step, None)
    if metrics is None:  # A run starts or resumes here.
      return
    losses, bad = jax.device_get((metrics['loss'], metrics['bad']))
    compiled = self._compilations.new_names()
    self._throughput.arrived(len(losses), compiled=bool(compiled))
    applied = self._check_finite(step - len(losses) + 1, losses, bad)
    self._report_compilations(step, len(losses), compiled)
    self._progress.update(step, float(losses[-1]))
    schedule = self._schedule
    if schedule.should_run(step, self._log_every) or schedule.due_at(step).last:
      values = jax.device_get(dict(metrics))
      del values['bad']
      record = {
        f'train/{n}': float(x[applied].mean()) for n, x in values.items()
      }
      record['train/learning_rate'] = float(values['learning_rate'][-1])
      if not applied.all():
        record['train/skipped'] = float(np.sum(~applied))
      record |= self._throughput.rates(schedule.batch_size)
      record['time/compilations'] = self._compilations.count
      self._writer.write(step, schedule.epoch(step), record)

  def write_evaluation(self, step: int, results: Mapping[str, float]) -> None:
    """Writes the results of an evaluation of the state at `step`.

    The record of the final state ends the run, and is on disk afterwards.
    """
    self._throughput.pause()  # The device evaluated before its next chunk.
    last = self._schedule.due_at(step).last
    self._writer.write(step, self._schedule.epoch(step), results, final=last)
    self.note(f'step {step}  {show_metrics(results)}')
    if last:
      self.sync()

  def note(self, line: str) -> None:
    """Shows a line to people."""
    self._progress.note(line)

  def sync(self) -> None:
    """Makes sure that all records are on disk.

    Raises:
      OSError: the disk does not take them.
    """
    self._writer.sync()

  def _check_finite(
    self, first: int, losses: np.ndarray, bad: np.ndarray
  ) -> np.ndarray:
    """Returns which steps were applied; raises if too many were skipped."""
    for step, index in enumerate(bad.tolist(), first):
      if index < 0:
        self._skipped = 0
        continue
      self._skipped += 1
      value = f' (it is {losses[step - first]})' if index == 0 else ''
      text = (
        f'{self._checked_values[index]} of step {step} is not finite{value}'
      )
      if self._skipped > self._max_skipped:
        raise FloatingPointError(
          f'{text}. Its update was not applied, the run stops, and no later '
          'state is saved. Lower config.optimizer.lr, check the examples of '
          'this step, or raise config.max_skipped_steps to skip such steps'
        )
      self.note(f'warning: {text}; step {step} was skipped')
    return bad < 0

  def _report_compilations(
    self, step: int, steps: int, compiled: list[str]
  ) -> None:
    if self._opened is not None:
      seconds, self._opened = time.perf_counter() - self._opened, None
      self.note(
        f'first {steps} steps done after {seconds:.1f} s '
        f'({self._compilations.count} programs, '
        f'{self._compilations.from_cache} of them from the cache)'
      )
    elif compiled and self._compiled_by <= step < self._schedule.total_steps:
      self._compiled_by = self._schedule.total_steps  # Warn once.
      warnings.warn(
        f'{", ".join(compiled)} compiled before step {step}, although every '
        'program should have been compiled by then; the device had to wait',
        RuntimeWarning,
        stacklevel=2,
      )
