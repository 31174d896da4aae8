"""Control measurements: a matrix product and a copy in every round.

The product measures the arithmetic units and the copy measures the memory. They
are the limits that results are compared with. If the product slows down during
a benchmark, the machine was not steady and the result is rejected.
"""

import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.harness import machine
from benchmarks.harness.rounds import Result, Side

# A result is rejected if the time of the products drifts by more than
# MAX_DRIFT, or if other programs use more than MAX_OTHERS of the cores.
MAX_DRIFT, MAX_OTHERS = 0.15, 0.1
REJECTED = 3  # the exit code
PRODUCT, COPY = 'control, product', 'control, copy'


def sides(dtype: str = 'float32') -> dict[str, Side]:
  """Returns the side to add to a benchmark; its products are in `dtype`."""
  return {'control': Side('benchmarks.harness.control:make', {'dtype': dtype})}


def make(dtype: str) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
  """Makes the side: square products and copies, and their FLOP and bytes."""
  import jax

  on_cpu = jax.default_backend() == 'cpu'
  product, flop = _product(dtype, *((1536, 4) if on_cpu else (8192, 20)))
  copy, moved = _copy(*((2**27, 4) if on_cpu else (2**30, 20)))
  facts = {'flop': flop, 'bytes': moved, 'dtype': dtype}
  return {'product': product, 'copy': copy}, facts


def _product(
  dtype: str, size: int, times: int
) -> tuple[Callable[[], Any], int]:
  import jax

  x = jax.random.normal(jax.random.key(0), (size, size), dtype)
  multiply = jax.jit(lambda x: x @ x)

  def call():
    done = [multiply(x) for _ in range(times)]
    jax.block_until_ready(done)

  return call, times * 2 * size**3


def _copy(size: int, times: int) -> tuple[Callable[[], Any], int]:
  """Returns copies too large for any cache, and the bytes read and written."""
  import jax
  import jax.numpy as jnp

  x = jnp.zeros(size // 4, jnp.uint32)
  # Two buffers are swapped, so nothing is allocated.
  add = jax.jit(lambda x, y: x + 1, donate_argnums=1, keep_unused=True)
  state = [x, jnp.copy(x)]

  def call():
    for _ in range(times):
      state[:] = [add(*state), state[0]]
    jax.block_until_ready(state)

  return call, times * 2 * x.nbytes


def limits(result: Result) -> dict[str, float]:
  """Returns the measured limits of the machine.

  Returns:
    `flop_per_s`, `bytes_per_s`: medians over the rounds; `moved`: how much
    longer the products took in the slowest third of the run than in the
    fastest, where 0.1 is 10 %; `others`: the fraction of the cores that other
    programs used.
  """
  seconds, facts = result.times.seconds, result.facts['control']
  products = seconds[PRODUCT]
  third = max(1, len(products) // 3)
  parts = [
    statistics.median(products[start : start + third])
    for start in range(0, len(products) - third + 1, third)
  ]
  return {
    'flop_per_s': facts['flop'] / statistics.median(products),
    'bytes_per_s': facts['bytes'] / statistics.median(seconds[COPY]),
    'moved': max(parts) / min(parts) - 1,
    'others': result.others,
  }


def rejected(limits: Mapping[str, float]) -> bool:
  """Returns whether the machine was too unsteady for a valid result."""
  return limits['moved'] > MAX_DRIFT or limits['others'] > MAX_OTHERS


def summary(limits: Mapping[str, float]) -> str:
  """Returns a line for the report, marked if the result is rejected."""
  line = (
    f'machine in the same run: {limits["flop_per_s"] / 1e9:.0f} GFLOP/s matrix '
    f'product, {limits["bytes_per_s"] / 1e9:.1f} GB/s copy; the products '
    f'drifted by {limits["moved"]:.0%}, other programs used '
    f'{limits["others"]:.0%} of the cores'
  )
  if rejected(limits):
    line += (
      f' (more than {MAX_DRIFT:.0%} or {MAX_OTHERS:.0%}: REJECTED, not written '
      'to results/)'
    )
  return line


def finish(
  name: str,
  text: str,
  numbers: dict[str, Any],
  all_limits: list[dict[str, float]],
  *,
  save: bool,
) -> None:
  """Prints a report and saves it, if requested and not rejected.

  Args:
    name: name of the benchmark.
    text: the report as Markdown.
    numbers: the report as JSON, as `machine.save` takes it.
    all_limits: the `limits` of every table.
    save: whether to save the report.

  Raises:
    SystemExit: with code `REJECTED`, if `save` is set and a table is rejected.
  """
  print(text)
  if not save:
    return
  if any(map(rejected, all_limits)):
    print(
      f'{name} is not saved: the machine was not steady (see the lines marked '
      'REJECTED). Stop other programs and run it again.',
      file=sys.stderr,
    )
    sys.exit(REJECTED)
  print(machine.save(name, text, numbers))
