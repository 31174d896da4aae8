"""Times of a benchmark: medians and ratios over its rounds."""

import dataclasses
import statistics


@dataclasses.dataclass(frozen=True)
class Times:
  """Seconds of each round, in the same order for every name.

  Attributes:
    seconds: the seconds of each round, by name.
  """

  seconds: dict[str, list[float]]

  def median_ms(self, name: str) -> float:
    """Returns the median time in milliseconds."""
    return 1e3 * statistics.median(self.seconds[name])

  def ratio(self, name: str, other: str) -> tuple[float, float, float]:
    """Returns median and quartiles of the time of `name` over that of `other`.

    Each round gives one ratio, of two calls made one after the other, so a
    slowdown of the whole machine cancels out.
    """
    ratios = [
      a / b
      for a, b in zip(self.seconds[name], self.seconds[other], strict=True)
    ]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, low, high

  def ratio_text(self, name: str, other: str) -> str:
    """Returns `ratio` as text for a table: `1.20 (1.10–1.31)`."""
    middle, low, high = self.ratio(name, other)
    return f'{middle:.2f} ({low:.2f}–{high:.2f})'
