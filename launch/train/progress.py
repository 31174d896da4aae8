"""Progress and throughput of a run."""

import sys
import time
from collections.abc import Callable, Mapping

from launch.shell.console import log_line
from launch.train.schedule import StepSchedule

_SECONDS_BETWEEN_LINES = 10
_MAX_SHOWN = 12


class Throughput:
  """Measures the time of dispatches by the arrival of their metrics.

  Metrics arrive while the device runs the next dispatch, so the time between
  two arrivals is the time of one dispatch. An interval in which something was
  compiled is not counted, nor is the time from `pause` to the next arrival.
  """

  def __init__(self, clock: Callable[[], float] = time.perf_counter):
    self._clock = clock
    self._since: float | None = None
    self._seconds = 0.0
    self._steps = 0

  def arrived(self, steps: int, compiled: bool = False) -> None:
    """Records that the metrics of a dispatch were read.

    Args:
      steps: number of steps of the dispatch.
      compiled: whether something was compiled since the last arrival.
    """
    now = self._clock()
    if self._since is not None and not compiled:
      self._seconds += now - self._since
      self._steps += steps
    self._since = now

  def pause(self) -> None:
    """Leaves out the time up to the next arrival."""
    self._since = None

  def rates(self, batch_size: int) -> dict[str, float]:
    """Returns the means since the last call; {} if nothing was counted."""
    if not self._steps:
      return {}
    seconds_per_step = self._seconds / self._steps
    self._seconds, self._steps = 0.0, 0
    return {
      'time/step_ms': 1e3 * seconds_per_step,
      'time/examples_per_s': batch_size / seconds_per_step,
    }


class Progress:
  """Shows the progress of a run on stderr.

  A bar on a terminal; elsewhere plain lines, at most one every 10 s.
  """

  def __init__(self, schedule: StepSchedule, *, shown: bool = True):
    """Creates it; with `shown=False` nothing is printed."""
    self._schedule, self._enabled = schedule, shown
    self._begin = 0
    self._started = self._last_line = time.monotonic()
    self._bar = None

  def begin(self, step: int) -> None:
    """Starts the clock; training begins at `step`."""
    self._begin = step
    self._started = self._last_line = time.monotonic()
    if self._enabled and sys.stderr.isatty():
      import tqdm

      self._bar = tqdm.tqdm(
        total=self._schedule.total_steps,
        initial=step,
        unit='step',
        dynamic_ncols=True,
      )

  def update(self, step: int, loss: float) -> None:
    """Shows the last step done and its loss."""
    now = time.monotonic()
    if self._bar is not None:
      rate = self._rate(step, now)
      self._bar.set_postfix_str(
        f'loss {loss:.4g}, {rate:.4g} examples/s', False
      )
      self._bar.update(step - self._bar.n)
    elif self._enabled and now - self._last_line >= _SECONDS_BETWEEN_LINES:
      self._last_line = now
      rate = self._rate(step, now)
      left = self._schedule.total_steps - step
      seconds = left * self._schedule.batch_size / rate
      self.note(
        f'step {step}/{self._schedule.total_steps}  loss {loss:.4g}  '
        f'{rate:.4g} examples/s  ETA {_clock(seconds)}'
      )

  def note(self, line: str) -> None:
    """Prints a line above the bar."""
    if self._bar is not None:
      self._bar.write(line, file=sys.stderr)
    elif self._enabled:
      log_line(line)

  def close(self) -> None:
    """Closes the bar."""
    if self._bar is not None:
      self._bar.close()

  def _rate(self, step: int, now: float) -> float:
    # Since the start, with compilation and evaluation: the remaining time is
    # estimated from this.
    seconds = max(1e-9, now - self._started)
    return (step - self._begin) * self._schedule.batch_size / seconds


def show_metrics(metrics: Mapping[str, float]) -> str:
  """Returns metrics as text for people: `test/accuracy 0.7123`.

  The bounds of intervals, and metrics beyond the first `_MAX_SHOWN`, are left
  out; they are in metrics.jsonl.
  """
  names = [name for name in metrics if not name.endswith(('_low', '_high'))]
  shown = [f'{name} {metrics[name]:.4g}' for name in names[:_MAX_SHOWN]]
  if len(names) > _MAX_SHOWN:
    shown.append(f'(and {len(names) - _MAX_SHOWN} more)')
  return '  '.join(shown)


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{seconds:02}'
