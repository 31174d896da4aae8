import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PHASES = ['plan', 'encode', 'check', 'index', 'find', 'offsets', 'one', 'scan']


@pytest.mark.slow
def test_the_bookkeeping_of_a_small_image_store(tmp_path):
  """The simulation of docs/scaling.md, with 6,000 images of 100 million."""
  command = [sys.executable, '-m', 'benchmarks.gallery_scale']
  command += [f'--work={tmp_path}', '--shards=60', '--size=100']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  lines = [line.partition(' ') for line in done.stdout.splitlines()]
  results = {phase: json.loads(result) for phase, _, result in lines}
  assert [*results] == PHASES
  assert results['plan']['own'] == 1
  assert results['check']['ids'] == results['find']['rows'] == 6000
  assert results['encode']['killed'] > 0, (
    'no process was killed: the test is too easy'
  )
