"""How fast a run is and how far it has come."""

import sys
import time
from collections.abc import Callable, Mapping

from launch.shell.console import log_line
from launch.train.schedule import StepSchedule

_SECONDS_BETWEEN_LINES = 10
_SHOWN = 12


class Throughput:
  """Measures the calls of the device by when their metrics arrive.

  Metrics arrive one call late while the device is busy with the next call, so
  the time between two arrivals is the time of one call. Not counted are those
  between which something was compiled, and the time from `pause` to the next
  arrival.
  """

  def __init__(self, clock: Callable[[], float] = time.perf_counter):
    self._clock = clock
    self._since: float | None = None
    self._seconds = 0.0
    self._steps = 0

  def arrived(self, steps: int, compiled: bool = False) -> None:
    """The metrics of a call of so many steps were read.

    Args:
      steps: of that call.
      compiled: whether something was compiled since the last arrival.
    """
    now = self._clock()
    if self._since is not None and not compiled:
      self._seconds += now - self._since
      self._steps += steps
    self._since = now

  def pause(self) -> None:
    """The device does something else before its next call."""
    self._since = None

  def rates(self, batch_size: int) -> dict[str, float]:
    """Returns the means since the last `rates`; {} if nothing was counted."""
    if not self._steps:
      return {}
    seconds_per_step = self._seconds / self._steps
    self._seconds, self._steps = 0.0, 0
    return {
      'time/step_ms': 1e3 * seconds_per_step,
      'time/examples_per_s': batch_size / seconds_per_step,
    }


class Progress:
  """Shows on stderr how far a run has come.

  A bar on a terminal; elsewhere plain lines, one every 10 s at most.
  """

  def __init__(self, plan: StepSchedule, *, shown: bool = True):
    """Begins; not `shown`, it is silent: another process tells the same."""
    self._plan, self._shows = plan, shown
    self._begin = 0
    self._started = self._shown = time.monotonic()
    self._bar = None

  def begin(self, step: int) -> None:
    """Training begins at `step`."""
    self._begin = step
    self._started = self._shown = time.monotonic()
    if self._shows and sys.stderr.isatty():
      import tqdm

      self._bar = tqdm.tqdm(
        total=self._plan.total_steps,
        initial=step,
        unit='step',
        dynamic_ncols=True,
      )

  def update(self, step: int, loss: float) -> None:
    """Shows the step that is done and its loss."""
    now = time.monotonic()
    if self._bar is not None:
      rate = self._rate(step, now)
      self._bar.set_postfix_str(
        f'loss {loss:.4g}, {rate:.4g} examples/s', False
      )
      self._bar.update(step - self._bar.n)
    elif self._shows and now - self._shown >= _SECONDS_BETWEEN_LINES:
      self._shown = now
      rate = self._rate(step, now)
      left = self._plan.total_steps - step
      seconds = left * self._plan.batch_size / rate
      self.note(
        f'step {step}/{self._plan.total_steps}  loss {loss:.4g}  '
        f'{rate:.4g} examples/s  ETA {_clock(seconds)}'
      )

  def note(self, line: str) -> None:
    """Prints a line above the bar."""
    if self._bar is not None:
      self._bar.write(line, file=sys.stderr)
    elif self._shows:
      log_line(line)

  def close(self) -> None:
    """Leaves the terminal tidy."""
    if self._bar is not None:
      self._bar.close()

  def _rate(self, step: int, now: float) -> float:
    # Of all that happened since the start, compiling and evaluating too: this
    # is what the remaining time follows from.
    seconds = max(1e-9, now - self._started)
    return (step - self._begin) * self._plan.batch_size / seconds


def show_metrics(metrics: Mapping[str, float]) -> str:
  """Returns metrics as text for people: `test/accuracy 0.7123`.

  A line holds so many: bounds of intervals and what is beyond `_SHOWN` metrics
  are left to metrics.jsonl.
  """
  names = [name for name in metrics if not name.endswith(('_low', '_high'))]
  shown = [f'{name} {metrics[name]:.4g}' for name in names[:_SHOWN]]
  if len(names) > _SHOWN:
    shown.append(f'(and {len(names) - _SHOWN} more)')
  return '  '.join(shown)


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{seconds:02}'
