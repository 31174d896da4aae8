"""The machine itself, measured between the rounds of every benchmark.

A matrix product says what the arithmetic units give, a copy what the memory
gives. They set the limits that results are held against; and where they moved
while a benchmark ran, its result says more of the machine than of the code.
"""

import statistics
from typing import Any

from benchmarks.rounds import Side
from benchmarks.timing import Times

MOVED = 0.15  # a result is refused above
NAMES = ('control, product', 'control, copy')


def sides(dtype: str = 'float32') -> dict[str, Side]:
  """The two sides to add to a benchmark whose products are in `dtype`."""
  return {
    NAMES[0]: Side('benchmarks.control:product', {'dtype': dtype}),
    NAMES[1]: Side('benchmarks.control:copy'),
  }


def product(dtype: str) -> Any:
  """A side: square matrix products; fact: their FLOP a call."""
  import jax
  import jax.numpy as jnp

  on_cpu = jax.default_backend() == 'cpu'
  size, times = (1536, 4) if on_cpu else (8192, 20)
  x = jax.random.normal(jax.random.key(0), (size, size), dtype)
  multiply = jax.jit(lambda x: x @ x)

  def call():
    for _ in range(times):
      done = multiply(x)
    jax.block_until_ready(done)

  jnp.zeros(()).block_until_ready()
  return call, {'flop': times * 2 * size**3}


def copy() -> Any:
  """A side: copies that no cache holds; fact: bytes read and written a call."""
  import jax
  import jax.numpy as jnp
  from launch.malloc import keep_freed_memory

  keep_freed_memory()
  on_cpu = jax.default_backend() == 'cpu'
  size, times = (2**25, 4) if on_cpu else (2**30, 20)
  x = jnp.zeros(size, jnp.uint32 if on_cpu else jnp.uint8)
  # Two buffers that change places: nothing is allocated.
  add = jax.jit(lambda x, y: x + 1, donate_argnums=1, keep_unused=True)
  state = [x, jnp.copy(x)]

  def call():
    for _ in range(times):
      state[:] = [add(*state), state[0]]
    jax.block_until_ready(state)

  return call, {'bytes': times * 2 * x.nbytes}


def limits(times: Times, facts: dict[str, dict[str, Any]]) -> dict[str, float]:
  """What the machine gave.

  Returns:
    `flop_per_s`, `bytes_per_s`: medians over the rounds; `moved`: by how much
    the products of the slowest third of the run took longer than those of the
    fastest, 0.1 being 10 %.
  """
  rates = [
    facts[name][unit] / statistics.median(times.seconds[name])
    for name, unit in zip(NAMES, ('flop', 'bytes'), strict=True)
  ]
  products = times.seconds[NAMES[0]]
  third = max(1, len(products) // 3)
  parts = [
    statistics.median(products[start : start + third])
    for start in range(0, len(products) - third + 1, third)
  ]
  return {
    'flop_per_s': rates[0],
    'bytes_per_s': rates[1],
    'moved': max(parts) / min(parts) - 1,
  }


def verdict(found: dict[str, float]) -> str:
  """A line for the report; says so where the result is to be refused."""
  line = (
    f'machine in the same run: {found["flop_per_s"] / 1e9:.0f} GFLOP/s matrix '
    f'product, {found["bytes_per_s"] / 1e9:.1f} GB/s copy; the products moved '
    f'by {found["moved"]:.0%}'
  )
  if found['moved'] > MOVED:
    line += f' (more than {MOVED:.0%}: REFUSED, not written to results/)'
  return line
