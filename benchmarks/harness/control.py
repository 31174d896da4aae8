"""The machine itself, measured between the rounds of every benchmark.

A matrix product says what the arithmetic units give, a copy what the memory
gives. They set the limits that results are held against; and where they moved
while a benchmark ran, its result says more of the machine than of the code.
"""

import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.harness import machine
from benchmarks.harness.rounds import Result, Side

# A result is refused where the products moved by more, or other programs had
# more of the cores.
MOVED, OTHERS = 0.15, 0.1
REFUSED = 3  # the exit code
PRODUCT, COPY = 'control, product', 'control, copy'


def sides(dtype: str = 'float32') -> dict[str, Side]:
  """The side to add to a benchmark whose products are in `dtype`."""
  return {'control': Side('benchmarks.harness.control:make', {'dtype': dtype})}


def make(dtype: str) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
  """The side: square products and copies; facts: FLOP and bytes of a call."""
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
  """Copies that no cache holds; the bytes are read and written."""
  import jax
  import jax.numpy as jnp

  x = jnp.zeros(size // 4, jnp.uint32)
  # Two buffers that change places: nothing is allocated.
  add = jax.jit(lambda x, y: x + 1, donate_argnums=1, keep_unused=True)
  state = [x, jnp.copy(x)]

  def call():
    for _ in range(times):
      state[:] = [add(*state), state[0]]
    jax.block_until_ready(state)

  return call, times * 2 * x.nbytes


def limits(result: Result) -> dict[str, float]:
  """What the machine gave.

  Returns:
    `flop_per_s`, `bytes_per_s`: medians over the rounds; `moved`: by how much
    the products of the slowest third of the run took longer than those of the
    fastest, 0.1 being 10 %; `others`: the share of the cores that other
    programs had.
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


def refused(found: Mapping[str, float]) -> bool:
  """Whether the machine was too unsteady to report anything."""
  return found['moved'] > MOVED or found['others'] > OTHERS


def verdict(found: Mapping[str, float]) -> str:
  """A line for the report; says so where the result is to be refused."""
  line = (
    f'machine in the same run: {found["flop_per_s"] / 1e9:.0f} GFLOP/s matrix '
    f'product, {found["bytes_per_s"] / 1e9:.1f} GB/s copy; the products moved '
    f'by {found["moved"]:.0%}, other programs had {found["others"]:.0%} of the '
    'cores'
  )
  if refused(found):
    line += (
      f' (more than {MOVED:.0%} or {OTHERS:.0%}: REFUSED, not written to '
      'results/)'
    )
  return line


def finish(
  name: str,
  text: str,
  numbers: dict[str, Any],
  found: list[dict[str, float]],
  *,
  save: bool,
) -> None:
  """Prints a report and, if wanted and fit, keeps it.

  Args:
    name: of the benchmark.
    text: for people.
    numbers: for programs, as `machine.save` takes them.
    found: the `limits` of every table.
    save: whether to keep it.

  Raises:
    SystemExit: with `REFUSED`, where it should be kept and may not.
  """
  print(text)
  if not save:
    return
  if any(map(refused, found)):
    print(
      f'{name} is not saved: the machine was not steady, see the lines marked '
      'REFUSED; run it again on a quiet one',
      file=sys.stderr,
    )
    sys.exit(REFUSED)
  print(machine.save(name, text, numbers))
