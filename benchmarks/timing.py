"""Fair times of several functions on one noisy machine: they take turns."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Times:
  """Seconds of each round, one for each function in the same order.

  Attributes:
    seconds: by name.
  """

  seconds: dict[str, list[float]]

  def median_ms(self, name: str) -> float:
    """The median time in milliseconds."""
    return 1e3 * statistics.median(self.seconds[name])

  def ratio(self, name: str, other: str) -> tuple[float, float, float]:
    """Median and quartiles of the time of `name` over that of `other`.

    Each round gives one ratio, of two calls made one after the other, so what
    slows the whole machine drops out.
    """
    ratios = [
      a / b
      for a, b in zip(self.seconds[name], self.seconds[other], strict=True)
    ]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high

  def ratio_text(self, name: str, other: str) -> str:
    """The same for a table: `1.20 (1.10–1.31)`."""
    middle, low, high = self.ratio(name, other)
    return f'{middle:.2f} ({low:.2f}–{high:.2f})'


def alternate(
  functions: Mapping[str, Callable[[], Any]], *, rounds: int, warm_up: int = 2
) -> Times:
  """Calls every function once a round; each has to wait for its result."""
  for _ in range(warm_up):
    for function in functions.values():
      function()
  seconds: dict[str, list[float]] = {name: [] for name in functions}
  for _ in range(rounds):
    for name, function in functions.items():
      start = time.perf_counter()
      function()
      seconds[name].append(time.perf_counter() - start)
  return Times(seconds)
