import subprocess
import sys
import time

import pytest

from benchmarks.harness import bystanders

SPIN = 'print(flush=True)\nwhile True: pass'


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_a_busy_program_is_ours_or_not():
  with subprocess.Popen(
    [sys.executable, '-c', SPIN], stdout=subprocess.PIPE
  ) as busy:
    assert busy.stdout is not None
    busy.stdout.readline()
    strange, known = (
      bystanders.Bystanders([]),
      bystanders.Bystanders([busy.pid]),
    )
    own = bystanders._own([busy.pid])
    start = time.perf_counter()
    time.sleep(1)
    took, seconds = (
      bystanders._own([busy.pid]) - own,
      time.perf_counter() - start,
    )
    shares = strange.share(), known.share()
    busy.kill()
  # What the clock of the system resolves; others may be at work as well.
  expected = took / seconds / len(bystanders._cores())
  assert took > 0.1
  assert shares[0] - shares[1] == pytest.approx(expected, abs=0.05)
