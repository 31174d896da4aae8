import subprocess
import sys
import time

import pytest

from benchmarks.harness import other_programs

SPIN = 'print(flush=True)\nwhile True: pass'


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_a_busy_program_counts_unless_it_is_ours():
  with subprocess.Popen(
    [sys.executable, '-c', SPIN], stdout=subprocess.PIPE
  ) as busy:
    assert busy.stdout is not None
    busy.stdout.readline()
    foreign, own_load = (
      other_programs.OtherPrograms([]),
      other_programs.OtherPrograms([busy.pid]),
    )
    own = other_programs._own([busy.pid])
    start = time.perf_counter()
    time.sleep(0.5)
    took, seconds = (
      other_programs._own([busy.pid]) - own,
      time.perf_counter() - start,
    )
    fractions = foreign.fraction(), own_load.fraction()
    busy.kill()
  # Within the resolution of the clock ticks; other programs may run as well.
  expected = took / seconds / len(other_programs._cores())
  assert took > 0.05
  assert fractions[0] - fractions[1] == pytest.approx(expected, abs=0.1)
