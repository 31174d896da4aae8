import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PHASES = ['plan', 'encode', 'check', 'index', 'find', 'offsets', 'one', 'scan']


def test_the_bookkeeping_of_a_small_gallery(tmp_path):
  """The simulation of docs/scaling.md, with 6,000 images of 100 million."""
  command = [sys.executable, '-m', 'benchmarks.gallery_scale']
  command += [f'--work={tmp_path}', '--shards=60', '--size=100']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, f'an id or a row is lost: {done.stderr}'
  lines = [line.partition(' ') for line in done.stdout.splitlines()]
  said = {phase: json.loads(result) for phase, _, result in lines}
  assert [*said] == PHASES
  assert said['plan']['own'] == 1
  assert said['check']['ids'] == said['find']['rows'] == 6000
  assert said['encode']['killed'] > 0, 'no process was killed: an easy test'
