"""The metrics of training, read one call late."""

import time
import warnings
from collections.abc import Mapping

import jax
import numpy as np

from launch.compiles import Compiles
from launch.plan import Plan
from launch.timing import Progress, Throughput
from launch.writers import MetricWriter


class TrainLog:
  """Keeps the device busy: reads a call's metrics while the next one runs.

  A row holds the means over the steps of the call that ends there (of the
  learning rate, the last), so that it does not depend on where a resumed run
  began; and what the run has cost this process, see docs/running.md.
  """

  def __init__(
    self,
    plan: Plan,
    log_every: int,
    settled: float,
    writer: MetricWriter,
    progress: Progress,
    compiles: Compiles,
  ):
    """Begins a log.

    Args:
      plan: when things happen.
      log_every: steps between two rows.
      settled: the step from which on nothing should be compiled any more.
      writer: where rows go.
      progress: what people see.
      compiles: counts what is compiled.
    """
    self._plan = plan
    self._log_every = log_every
    self._settled = settled
    self._writer = writer
    self._progress = progress
    self._compiles = compiles
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
      FloatingPointError: its loss is not finite.
    """
    metrics = self._pending.pop(step, None)
    if metrics is None:
      return
    losses = jax.device_get(metrics['loss'])
    built = self._compiles.names()
    self._throughput.arrived(len(losses), compiled=bool(built))
    if not np.isfinite(losses).all():
      bad = np.flatnonzero(~np.isfinite(losses))[0]
      raise FloatingPointError(
        f'the loss of step {step - len(losses) + bad + 1} is {losses[bad]}; '
        'the run is stopped and nothing after it is saved'
      )
    self._tell_compiles(step, len(losses), built)
    self._progress.update(step, float(losses[-1]))
    if self._plan.due(step, self._log_every) or step == self._plan.total_steps:
      values = jax.device_get(dict(metrics))
      row = {f'train/{name}': float(x.mean()) for name, x in values.items()}
      row['train/learning_rate'] = float(values['learning_rate'][-1])
      row |= self._throughput.rates(self._plan.batch_size)
      row['time/compilations'] = self._compiles.count
      self._writer.write(step, self._plan.epoch(step), row)

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
