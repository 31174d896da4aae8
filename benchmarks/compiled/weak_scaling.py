"""What a step would take on many devices, from what it sends and assumptions.

Nothing here was measured. Devices stand in nodes of eight. What all of them
exchange goes in two stages: within each node, and between the devices of the
same place in all nodes, each by a network card of its own. Both are rings at
the full speed of their links; on top comes what a collective takes however
little it moves.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.compiled.hlo import Collective


class Links(NamedTuple):
  """What is assumed of a cluster.

  Attributes:
    node: devices of a node.
    inside: bytes a second that a device sends within its node: NVLink of an
      H100.
    across: the same to other nodes: InfiniBand of 400 Gbit/s, a card a device.
    latency: seconds of the smallest collective within a node.
    doubling: seconds more for each doubling of the nodes.
  """

  node: int = 8
  inside: float = 450e9
  across: float = 50e9
  latency: float = 10e-6
  doubling: float = 5e-6


def seconds(collective: Collective, devices: int, links: Links) -> float:
  """What a collective takes in a step.

  Args:
    collective: of a program for so many devices.
    devices: 1, a divisor of a node, or whole nodes.
    links: see there.

  Examples:
    >>> seconds(Collective('all-reduce', 450_000_000), 1, Links())
    0.0
    >>> round(seconds(Collective('all-reduce', 450_000_000), 8, Links()), 5)
    0.00176
  """
  if devices == 1:
    return 0.0
  node = min(devices, links.node)
  nodes = devices // node
  size = collective.bytes
  if collective.kind == 'collective-permute':
    # Some neighbour is in another node, and all wait for it.
    inside, across = (size, 0.0) if nodes == 1 else (0.0, size)
  elif collective.kind == 'all-to-all':
    inside = size * (node - 1) / devices
    across = size * (devices - node) / devices
  else:
    inside = size * (node - 1) / node
    across = size / node * (nodes - 1) / nodes
    if collective.kind == 'all-reduce':
      inside, across = 2 * inside, 2 * across
  wait = links.latency + links.doubling * math.log2(nodes)
  moving = inside / links.inside + across / links.across
  return collective.times * (wait + moving)


def efficiency(
  step: float,
  collectives: Iterable[Collective],
  devices: int,
  links: Links | None = None,
) -> tuple[float, float]:
  """The speed of a device beside that of a device alone, at the same batch.

  Args:
    step: seconds that a device alone takes for a step.
    collectives: those of the step.
    devices: as in `seconds`.
    links: default: `Links()`.

  Returns:
    Two bounds: nothing is sent while a device computes, and all is.

  Examples:
    >>> efficiency(0.01, [], 1)
    (1.0, 1.0)
  """
  links = links or Links()
  sending = sum(seconds(x, devices, links) for x in collectives)
  return step / (step + sending), step / max(step, sending)
