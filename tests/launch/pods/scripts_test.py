import pathlib
import subprocess
import sys

from tests.launch.pods.files import PODS, ROOT


def test_shellcheck_passes():
  scripts = [*PODS.glob('*.sh'), ROOT / '.ci' / 'run']
  assert len(scripts) == 3
  program = pathlib.Path(sys.executable).parent / 'shellcheck'
  done = subprocess.run([program, *scripts], capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
