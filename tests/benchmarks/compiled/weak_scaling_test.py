import pytest

from benchmarks.compiled.hlo import KINDS, Collective
from benchmarks.compiled.weak_scaling import Links, efficiency, seconds

FREE = Links(latency=0.0, doubling=0.0)


@pytest.mark.parametrize('kind', KINDS)
def test_a_single_device_loses_nothing(kind):
  some = [Collective(kind, 10**9)]
  assert efficiency(0.01, some, 1) == (1.0, 1.0)


@pytest.mark.parametrize('kind', KINDS)
def test_a_node_is_a_ring(kind):
  one = Collective(kind, 450_000_000, times=2)
  assert seconds(one, 8, FREE) == pytest.approx(one.sent(8) / 450e9)


# By hand: 80 MB on 64 devices, 8 nodes, 10 MB for each of their cards.
@pytest.mark.parametrize(
  'kind, inside, across',
  [
    ('all-reduce', 2 * 70e6, 2 * 8.75e6),
    ('all-gather', 70e6, 8.75e6),
    ('reduce-scatter', 70e6, 8.75e6),
    ('all-to-all', 8.75e6, 70e6),
    ('collective-permute', 0, 80e6),
  ],
)
def test_nodes_exchange_through_their_cards(kind, inside, across):
  found = seconds(Collective(kind, 80_000_000), 64, FREE)
  assert found == pytest.approx(inside / 450e9 + across / 50e9)


def test_latency_grows_with_the_number_of_nodes():
  small = Collective('all-reduce', 4, times=3)
  links = Links(inside=1e30, across=1e30)
  for devices, us in ((8, 10), (64, 25), (512, 40)):
    assert seconds(small, devices, links) == pytest.approx(3e-6 * us)


def test_the_bounds_are_no_overlap_and_full_overlap():
  one = Collective('all-to-all', 4_000_000_000)  # 7.8 ms in a node
  low, high = efficiency(0.01, [one], 8, FREE)
  assert high == 1.0
  assert low == pytest.approx(0.01 / (0.01 + 3.5 / 450))
  low, high = efficiency(0.001, [one], 8, FREE)
  assert low < high == pytest.approx(0.001 / (3.5 / 450))
