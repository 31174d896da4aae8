"""Collectives of a compiled program, parsed from its HLO text."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = (
  'all-reduce',
  'all-gather',
  'reduce-scatter',
  'all-to-all',
  'collective-permute',
)
BYTES = {'pred': 1, 'bf16': 2, 'f16': 2, 'c64': 8} | {
  f'{kind}{bits}': bits // 8
  for kind, bits in (
    *(('s', bits) for bits in (8, 16, 32, 64)),
    *(('u', bits) for bits in (8, 16, 32, 64)),
    *(('f', bits) for bits in (32, 64)),
  )
}

HALF = ('bf16', 'f16')

_INSTRUCTION = re.compile(
  rf'^\s*(?:ROOT )?%?[\w.-]+ = (.+?) ({"|".join(KINDS)})(-start)?\('
)
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.-]+) \(.*\{$')
_CALLED = re.compile(
  r'(?:to_apply|calls|condition|body|branch_computations'
  r'|true_computation|false_computation)=(\{[^}]*\}|%?[\w.-]+)'
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_ARRAY = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
_SOURCE = re.compile(r'op_name="([^"]*)"')


class Collective(NamedTuple):
  """One collective of a program.

  Attributes:
    kind: one of `KINDS`.
    bytes: size of the whole array: the summed array, the result of a gather,
      the input of a scatter, what a device has for all others, or what it
      passes on.
    half: how many of these bytes are 16-bit numbers.
    arrays: number of arrays that it combines.
    times: how often it runs in a step; 1 if unknown.
    looped: whether it is in a loop whose length depends on the data.
    source: the operation it comes from (XLA's op_name).
  """

  kind: str
  bytes: int
  half: int = 0
  arrays: int = 1
  times: int = 1
  looped: bool = False
  source: str = ''

  def sent(self, devices: int) -> float:
    """Returns bytes that each device sends in a step, on a ring of devices."""
    rest = (devices - 1) / devices
    fraction = {
      'all-reduce': 2 * rest,
      'collective-permute': float(devices > 1),
    }
    return self.times * self.bytes * fraction.get(self.kind, rest)


def collectives(text: str, devices: int) -> Iterator[Collective]:
  """Yields the collectives in the text of an HLO module.

  Args:
    text: text of one program, in which every collective spans all devices.
    devices: number of devices.

  Raises:
    ValueError: an array has a dtype that is not in `BYTES`.
  """
  found: list[tuple[str, Collective]] = []
  callers: dict[str, tuple[str, bool, int | None]] = {}
  here = ''
  for line in text.splitlines():
    if header := _COMPUTATION.match(line):
      here = header[2]
      continue
    trips = _TRIPS.search(line)
    for called in _CALLED.findall(line):
      for name in re.findall(r'[\w.-]+', called):
        # None: not a loop, or a loop of unknown length.
        loops = f'body=%{name}' in line or f'body={name}' in line
        count = int(trips[1]) if trips else None
        callers[name] = (here, loops, count)
    if match := _INSTRUCTION.match(line):
      kind, arrays = match[2], _results(match[1], match[2], bool(match[3]))
      sizes = [_size(*array) for array in arrays]
      half = sum(
        size
        for size, array in zip(sizes, arrays, strict=True)
        if array[0] in HALF
      )
      size = sum(sizes)
      if kind == 'reduce-scatter':
        size, half = devices * size, devices * half
      # An all-to-all lists one array per device: count them as one.
      count = 1 if kind == 'all-to-all' else len(arrays)
      source = _SOURCE.search(line)
      one = Collective(
        kind, size, half, count, source=source[1] if source else ''
      )
      found.append((here, one))
  for where, one in found:
    times, looped = _repeats(where, callers)
    yield one._replace(times=times, looped=looped)


def _results(shape: str, kind: str, started: bool) -> list[tuple[str, str]]:
  """Returns dtypes and dimensions of the results."""
  if started and kind != 'all-reduce':
    # (operands, results, ...): each an array or a tuple.
    parts = re.findall(r'\([^()]*\)|[a-z]+\d*\[[\d,]*\]', shape[1:-1])
    shape = parts[1]
  return _ARRAY.findall(shape)


def _size(dtype: str, dimensions: str) -> int:
  if dtype not in BYTES:
    raise ValueError(
      f'{dtype}[{dimensions}] has an unknown dtype; add it to BYTES'
    )
  return BYTES[dtype] * math.prod(int(x) for x in dimensions.split(',') if x)


def _repeats(
  name: str, callers: dict[str, tuple[str, bool, int | None]]
) -> tuple[int, bool]:
  """Returns how often a computation runs, and whether that depends on data."""
  times, looped = 1, False
  while name in callers:
    name, loops, count = callers[name]
    if loops:
      times *= count or 1
      looped |= count is None
  return times, looped
