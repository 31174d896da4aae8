"""Step schedule: the length of a run, its chunks, and when events are due."""

import dataclasses
import math
from typing import NamedTuple


class Due(NamedTuple):
  """Whether to evaluate, save or stop at a step.

  Attributes:
    evaluate: whether the state is evaluated.
    checkpoint: whether the state is saved.
    last: whether it is the final state of the run; then both others are True.
  """

  evaluate: bool
  checkpoint: bool
  last: bool


@dataclasses.dataclass(frozen=True)
class StepSchedule:
  """The steps of a run, known before the first one.

  Steps are counted when they are done: at step 0 none is. The device gets a
  chunk of `steps_per_dispatch` steps at a time. If the steps of the run are no
  multiple of it, the first chunk is the shorter one, so that every program is
  compiled within two dispatches and none at the very end. A resumed run starts
  at the beginning of a chunk and so runs the same programs.

  Attributes:
    epochs: number of times that an example is seen, on average.
    examples: number of training examples.
    batch_size: examples of one step.
    steps_per_dispatch: steps of one chunk; the first may be shorter.
    eval_every: epochs between two evaluations; 0 for the final one only.
    checkpoint_every: epochs between two checkpoints; 0 for the final one only.
  """

  epochs: float
  examples: int
  batch_size: int
  steps_per_dispatch: int
  eval_every: float = 0.0
  checkpoint_every: float = 0.0

  def __post_init__(self):
    """Raises ValueError for more steps than the devices can count."""
    if self.total_steps >= 2**31:
      raise ValueError(
        f'config.epochs={self.epochs} of {self.examples} examples with '
        f'config.batch_size={self.batch_size} are {self.total_steps} steps; '
        'the devices count up to 2**31 - 1. Lower config.epochs'
      )

  @property
  def total_steps(self) -> int:
    """The number of steps of the whole run, 1 or more."""
    return self.steps(self.epochs) or 1

  def steps(self, epochs: float) -> int:
    """Returns the number of steps of `epochs` epochs, rounded."""
    return round(epochs * self.examples / self.batch_size)

  def epoch(self, step: int) -> float:
    """Returns the epochs done at `step`."""
    return step * self.batch_size / self.examples

  def chunk_size(self, step: int) -> int:
    """Returns the number of steps in the chunk that begins at `step`."""
    return (self.total_steps - step) % self.steps_per_dispatch or (
      self.steps_per_dispatch
    )

  def due_at(self, step: int) -> Due:
    """Returns what has to be done with the state at `step`."""
    last = step == self.total_steps
    return Due(
      evaluate=last or self.should_run_epochs(step, self.eval_every),
      checkpoint=last or self.should_run_epochs(step, self.checkpoint_every),
      last=last,
    )

  def should_run(self, step: int, every_steps: float) -> bool:
    """Returns whether a periodic event runs before the chunk at `step`.

    It runs at the first beginning of a chunk at or after each multiple of
    `every_steps`, and never at step 0.
    """
    return _count(step, every_steps) > _count(
      max(0, step - self.steps_per_dispatch), every_steps
    )

  def should_run_epochs(self, step: int, every_epochs: float) -> bool:
    """Returns `should_run` for a period in epochs; 0 means never."""
    if every_epochs == 0:
      return False
    return self.should_run(step, every_epochs * self.examples / self.batch_size)


def _count(step: int, every: float) -> int:
  # A multiple that floating point puts slightly above a whole step counts for
  # that step.
  return math.floor(step / every + 1e-9)
