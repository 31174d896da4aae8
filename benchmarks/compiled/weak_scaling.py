"""Weak scaling model: estimated step time on many devices.

Nothing here is measured. Devices are grouped in nodes of eight. A collective
has two stages: within each node, and between the devices of the same rank in
all nodes, each with its own network card. Both stages are rings at the full
speed of their links, plus a latency that does not depend on the size.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from benchmarks.compiled.hlo import Collective


class Links(NamedTuple):
  """Assumed links of a cluster.

  Attributes:
    node: devices per node.
    inside: bytes per second that a device sends within its node: NVLink of an
      H100.
    across: bytes per second to other nodes: InfiniBand of 400 Gbit/s, one card
      per device.
    latency: seconds of the smallest collective within a node.
    doubling: additional seconds for each doubling of the nodes.
  """

  node: int = 8
  inside: float = 450e9
  across: float = 50e9
  latency: float = 10e-6
  doubling: float = 5e-6


def seconds(collective: Collective, devices: int, links: Links) -> float:
  """Returns the seconds of a collective in one step.

  Args:
    collective: a collective of the program compiled for `devices`.
    devices: 1, a divisor of `links.node`, or a multiple of it.
    links: the assumed links.

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
    # One neighbour is in another node, and all devices wait for it.
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
  """Returns bounds of the speed per device relative to a single device.

  Args:
    step: seconds per step on a single device, at the same batch per device.
    collectives: the collectives of a step.
    devices: as in `seconds`.
    links: default: `Links()`.

  Returns:
    Two bounds: without and with full overlap of communication and computation.

  Examples:
    >>> efficiency(0.01, [], 1)
    (1.0, 1.0)
  """
  links = links or Links()
  sending = sum(seconds(x, devices, links) for x in collectives)
  return step / (step + sending), step / max(step, sending)
