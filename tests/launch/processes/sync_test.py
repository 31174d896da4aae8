import signal
from typing import Any

from launch.mesh import make_mesh
from launch.processes.sync import StopConsensus, check_same, rank_0_first


def test_a_single_process_agrees_with_itself():
  check_same({'seed': 1})
  with rank_0_first('here'):
    pass


def test_a_single_process_gets_its_signal_at_once():
  class Stop:
    received = None

    def __call__(self):
      return self.received

    def or_none(self, work):
      return None if self.received else work()

  stop: Any = Stop()
  consensus = StopConsensus(stop, make_mesh())
  assert consensus() is None and consensus.or_none(lambda: 3) == 3
  stop.received = signal.SIGTERM
  assert consensus() == signal.SIGTERM
  assert consensus.or_none(lambda: 3) is None
