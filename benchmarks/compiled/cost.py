"""The cost of a program for one chip, read from the text of the compiler.

A conditional counts as its dearest branch, and the body of a loop as often as
it runs, if the compiler knows how often that is, or else once.
"""

import math
import re
from collections.abc import Callable, Iterator

from benchmarks.compiled.hlo import BYTES

_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.-]+) \(.*\{$')
_INSTRUCTION = re.compile(r'^ +(?:ROOT )?%?[\w.-]+ = (\(.*?\)|\S+) ([\w-]+)\(')
_BRANCHES = re.compile(
  r'branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.-]+)'
)
_BODY = re.compile(r'body=%?([\w.-]+)')
_CALLED = re.compile(r'(?:to_apply|calls)=%?([\w.-]+)')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_ON_CHIP = re.compile(r'\w+\[[\d,]*\]\{[^}]*S\(\d+\)[^}]*\}')
_ARRAY = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
# These take no time, or are counted where they are called.
_FREE = {
  *('parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast'),
  *('conditional', 'while', 'call', 'after-all', 'partition-id'),
  # A transfer in two halves counts once.
  *('copy-done', 'slice-done', 'async-done', 'async-start'),
}

Line = tuple[str, str, str]  # shape of the result, operation, the whole line


def computations(text: str) -> tuple[dict[str, list[Line]], str]:
  """Returns the instructions of each computation, and which is the entry."""
  found: dict[str, list[Line]] = {}
  entry = here = ''
  for line in text.splitlines():
    if header := _COMPUTATION.match(line):
      here = header[2]
      found[here] = []
      entry = here if header[1] else entry
    elif match := _INSTRUCTION.match(line):
      found[here].append((match[1], match[2], line))
  return found, entry


def total(text: str, cost: Callable[[Line], int]) -> int:
  """Returns the cost of all instructions that one run of a program executes."""
  parts, entry = computations(text)

  def of(name: str) -> int:
    return sum(of_line(line) for line in parts[name])

  def of_line(line: Line) -> int:
    _, operation, whole = line
    if operation == 'conditional':
      names = [name for group in _BRANCHES.findall(whole) for name in group]
      branches = re.findall(r'[\w.-]+', ' '.join(names))
      return max(of(name) for name in branches)
    if operation == 'while':
      trips = _TRIPS.search(whole)
      body = _BODY.search(whole)
      assert body is not None
      return (int(trips[1]) if trips else 1) * of(body[1])
    if operation == 'call':
      called = _CALLED.search(whole)
      assert called is not None
      return of(called[1])
    return cost(line)

  return of(entry)


def cycles(text: str) -> int:
  """Returns the cycles that the compiler of a TPU estimates."""

  def cost(line: Line) -> int:
    found = _CYCLES.search(line[2])
    return int(found[1]) if found else 0

  return total(text, cost)


def kernels(text: str) -> int:
  """Returns the number of kernels that a GPU launches."""
  return total(text, lambda line: int(line[1] not in _FREE))


def image_kernels(text: str, pixels: int) -> int:
  """Returns the number of kernels whose result has as many elements as images.

  Args:
    text: a program.
    pixels: number of elements of a batch of images.
  """

  def cost(line: Line) -> int:
    large = max(map(elements, arrays(line[0])), default=0) >= pixels
    return int(large and line[1] not in _FREE)

  return total(text, cost)


def sorts(text: str) -> Iterator[int]:
  """Yields the number of elements of each sort, wherever it is."""
  for part in computations(text)[0].values():
    for shape, operation, _ in part:
      if operation == 'sort':
        yield max(map(elements, arrays(shape)))


def largest(text: str) -> int:
  """Returns the bytes of the largest array that is written to main memory.

  Arrays within a fusion are not written, and those that a TPU keeps on the chip
  (`S(1)`) are not in main memory.
  """
  parts, _ = computations(text)
  fused = {
    name
    for lines in parts.values()
    for _, operation, whole in lines
    if operation not in ('conditional', 'while', 'call')
    for name in _CALLED.findall(whole)
  }
  return max(
    (
      BYTES.get(dtype, 0) * elements((dtype, dimensions))
      for name, lines in parts.items()
      if name not in fused
      for shape, operation, _ in lines
      if operation not in _FREE
      for dtype, dimensions in arrays(_ON_CHIP.sub('', shape))
    ),
    default=0,
  )


def arrays(shape: str) -> list[tuple[str, str]]:
  """Returns the dtype and the dimensions of each array of a result.

  >>> arrays('(u8[2,3]{1,0}, pred[])')
  [('u8', '2,3'), ('pred', '')]
  """
  return _ARRAY.findall(shape)


def elements(array: tuple[str, str]) -> int:
  """Returns the number of elements of one of `arrays`.

  >>> elements(('u8', '2,3'))
  6
  """
  return math.prod(int(n) for n in array[1].split(',') if n)
