"""The metrics of training, read one call late."""

from collections.abc import Mapping

import jax
import numpy as np

from launch.plan import Plan
from launch.timing import Progress, Throughput
from launch.writers import MetricWriter


class TrainLog:
  """Keeps the device busy: reads a call's metrics while the next one runs.

  A row holds the means over the steps of the call that ends there (of the
  learning rate, the last), so that it does not depend on where a resumed run
  began.
  """

  def __init__(
    self, plan: Plan, log_every: int, writer: MetricWriter, progress: Progress
  ):
    self._plan = plan
    self._log_every = log_every
    self._writer = writer
    self._progress = progress
    self._throughput = Throughput()
    self._pending: tuple[int, Mapping[str, jax.Array]] | None = None

  def calling(self, steps: int) -> bool:
    """A call of so many steps is about to be made; True if it compiles."""
    return self._throughput.calling(steps)

  def called(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
    """A call was made that ends at `step`; reads the call before.

    Raises:
      FloatingPointError: the loss of the call before is not finite.
    """
    pending, self._pending = self._pending, (step, metrics)
    if pending:
      self._read(*pending)

  def catch_up(self) -> None:
    """Reads the last call too; the device is idle then.

    Raises:
      FloatingPointError: its loss is not finite.
    """
    if self._pending:
      self._read(*self._pending)
    self._pending = None
    self._throughput.pause()

  def _read(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
    values = {
      name: np.asarray(x) for name, x in jax.device_get(metrics).items()
    }
    losses = values['loss']
    self._throughput.arrived(len(losses))
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
      raise FloatingPointError(
        f'the loss of step {step - len(losses) + bad[0] + 1} is '
        f'{losses[bad[0]]}; the run is stopped and nothing after it is saved'
      )
    self._progress.update(step, float(losses[-1]))
    if self._plan.due(step, self._log_every) or step == self._plan.total_steps:
      row = {f'train/{name}': float(x.mean()) for name, x in values.items()}
      row['train/learning_rate'] = float(values['learning_rate'][-1])
      row |= self._throughput.rates(self._plan.batch_size)
      self._writer.write(step, self._plan.epoch(step), row)
