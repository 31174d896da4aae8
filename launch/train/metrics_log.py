"""The metrics of training, read one call late."""

import time
import warnings
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from launch.train.compilations import CompilationCounter
from launch.train.progress import Progress, Throughput
from launch.train.schedule import StepSchedule
from launch.workdir.metrics import MetricWriter


class TrainLog:
  """Keeps the device busy: reads a call's metrics while the next one runs.

  A row holds the means over the steps of the call that ends there (of the
  learning rate, the last), so that it does not depend on where a resumed run
  began; and what the run has cost this process, see docs/running.md.
  """

  def __init__(
    self,
    plan: StepSchedule,
    log_every: int,
    settled: float,
    writer: MetricWriter,
    progress: Progress,
    compiles: CompilationCounter,
    values: Sequence[str],
    max_skipped: int,
  ):
    """Begins a log.

    Args:
      plan: when things happen.
      log_every: steps between two rows.
      settled: the step from which on nothing should be compiled any more.
      writer: where rows go.
      progress: what people see.
      compiles: counts what is compiled.
      values: what each step checks (`launch.train.step.values_of`).
      max_skipped: steps in a row that may be left out.
    """
    self._plan = plan
    self._log_every = log_every
    self._settled = settled
    self._writer = writer
    self._progress = progress
    self._compiles = compiles
    self._values = values
    self._max_skipped = max_skipped
    self._skipped = 0
    self._throughput = Throughput()
    self._lengths: set[int] = set()
    self._pending: dict[int, Mapping[str, jax.Array]] = {}
    self._opened: float | None = time.perf_counter()

  def calling(self, steps: int) -> bool:
    """A call of so many steps is about to be made; True if it compiles."""
    first = steps not in self._lengths
    self._lengths.add(steps)
    return first

  def called(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
    """A call was made that ends at `step`."""
    self._pending[step] = metrics

  def read(self, step: int) -> None:
    """Reads the call that ended at `step`, if there was one.

    Raises:
      FloatingPointError: more steps in a row were not finite than may be.
    """
    metrics = self._pending.pop(step, None)
    if metrics is None:
      return
    losses, bad = jax.device_get((metrics['loss'], metrics['bad']))
    built = self._compiles.names()
    self._throughput.arrived(len(losses), compiled=bool(built))
    applied = self._check(step - len(losses) + 1, losses, bad)
    self._tell_compiles(step, len(losses), built)
    self._progress.update(step, float(losses[-1]))
    if self._plan.due(step, self._log_every) or step == self._plan.total_steps:
      values = jax.device_get(dict(metrics))
      del values['bad']
      row = {f'train/{n}': float(x[applied].mean()) for n, x in values.items()}
      row['train/learning_rate'] = float(values['learning_rate'][-1])
      if not applied.all():
        row['train/skipped'] = float(np.sum(~applied))
      row |= self._throughput.rates(self._plan.batch_size)
      row['time/compilations'] = self._compiles.count
      self._writer.write(step, self._plan.epoch(step), row)

  def _check(
    self, first: int, losses: np.ndarray, bad: np.ndarray
  ) -> np.ndarray:
    """Which steps of a call were applied; raises if too many were not."""
    for step, which in enumerate(bad.tolist(), first):
      if which < 0:
        self._skipped = 0
        continue
      self._skipped += 1
      value = f' (it is {losses[step - first]})' if which == 0 else ''
      text = f'{self._values[which]} of step {step} is not finite{value}'
      if self._skipped > self._max_skipped:
        raise FloatingPointError(
          f'{text}; its update was not applied, the run is stopped and no '
          'later state is saved. Lower config.optimizer.lr, look at the '
          'examples of that step, or leave some out: config.max_skipped_steps'
        )
      self._progress.note(f'warning: {text}; step {step} was left out')
    return bad < 0

  def evaluated(self) -> None:
    """The device has evaluated before its next call."""
    self._throughput.pause()

  def _tell_compiles(self, step: int, steps: int, built: list[str]) -> None:
    if self._opened is not None:
      seconds, self._opened = time.perf_counter() - self._opened, None
      self._progress.note(
        f'first {steps} steps done after {seconds:.1f} s '
        f'({self._compiles.count} programs, {self._compiles.from_cache} of '
        'them from the cache)'
      )
    elif built and self._settled <= step < self._plan.total_steps:
      self._settled = self._plan.total_steps  # Once is enough.
      warnings.warn(
        f'compiled before step {step}, when all should have been compiled: '
        f'{", ".join(built)}; the device waited for it',
        RuntimeWarning,
        stacklevel=2,
      )
