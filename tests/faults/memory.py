"""Memory leaks: the memory that remains allocated after a call."""

import gc
import linecache
import tracemalloc
from collections.abc import Callable
from typing import Any


def left_per_call(
  call: Callable[[int], Any], times: int
) -> tuple[float, float]:
  """Returns the bytes of Python objects that remain after each call.

  orbax asks tensorstore for a spec as JSON for each array that it writes or
  reads, and tensorstore 0.1.71 to 0.1.86 leaks four strings of each answer.
  These bytes are counted separately.

  Args:
    call: is called with a different number each time.
    times: the number of calls to measure, after some that fill caches.

  Returns:
    `(others, tensorstore)`.
  """
  warm = 20
  tracemalloc.start()
  try:
    for number in range(warm):
      call(number)
    gc.collect()
    before = tracemalloc.take_snapshot()
    for number in range(warm, warm + times):
      call(number)
    gc.collect()
    after = tracemalloc.take_snapshot()
  finally:
    tracemalloc.stop()
  others, tensorstore = 0, 0
  for grown in after.compare_to(before, 'lineno'):
    frame = grown.traceback[0]
    if 'KvStore.Spec' in linecache.getline(frame.filename, frame.lineno):
      tensorstore += grown.size_diff
    else:
      others += grown.size_diff
  return others / times, tensorstore / times
