"""When things happen in a run: its length, its calls and what is due."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class StepSchedule:
  """The steps of a run, known before the first one.

  Steps count what is done: at step 0 nothing is. The device is called for
  `steps_per_dispatch` steps at a time. What does not divide the run comes first, in
  a shorter call, so that every program is compiled within two calls and none at
  the very end. A resumed run begins where a call began, and so runs the same
  programs.

  Attributes:
    epochs: how often an example is seen, on average.
    examples: examples of the training set.
    batch_size: examples of one step.
    steps_per_dispatch: steps of one call of the device; the first may be shorter.
  """

  epochs: float
  examples: int
  batch_size: int
  steps_per_dispatch: int

  def __post_init__(self):
    """Raises ValueError for more steps than the devices can count."""
    if self.total_steps >= 2**31:
      raise ValueError(
        f'config.epochs={self.epochs} of {self.examples} examples are '
        f'{self.total_steps} steps of config.batch_size={self.batch_size}: at '
        'most 2**31 - 1 can be counted'
      )

  @property
  def total_steps(self) -> int:
    """Steps of the whole run, 1 or more."""
    return self.steps(self.epochs) or 1

  def steps(self, epochs: float) -> int:
    """Returns the steps of so many epochs, rounded."""
    return round(epochs * self.examples / self.batch_size)

  def epoch(self, step: int) -> float:
    """Returns the epochs done at `step`."""
    return step * self.batch_size / self.examples

  def call_size(self, step: int) -> int:
    """Returns how many steps the call that begins at `step` takes."""
    return (self.total_steps - step) % self.steps_per_dispatch or (
      self.steps_per_dispatch
    )

  def due(self, step: int, every_steps: float) -> bool:
    """Says whether something is due at the beginning of the call at `step`.

    It is due at the first beginning of a call at or after each multiple of
    `every_steps`, and never at step 0.
    """
    return _count(step, every_steps) > _count(
      max(0, step - self.steps_per_dispatch), every_steps
    )

  def due_epochs(self, step: int, every_epochs: float) -> bool:
    """Does what `due` does, by epochs; 0 is never due."""
    if every_epochs == 0:
      return False
    return self.due(step, every_epochs * self.examples / self.batch_size)


def _count(step: int, every: float) -> int:
  # Multiples that floating point puts a hair above a whole step count for it.
  return math.floor(step / every + 1e-9)
