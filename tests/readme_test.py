"""What the README shows runs as written, and what it names is there."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / 'README.md').read_text()


def test_examples_run_with_jax_alone():
  blocks = re.findall(r'```python\n(.*?)```', README, re.S)
  assert blocks
  code = '\n'.join(blocks) + (
    '\nimport sys\n'
    "assert not {'flax', 'optax', 'grain'} & set(sys.modules)\n"
    'assert masks.shape == (8, 32, 32, 1) and float(loss) > 0\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT
  )
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert lines == ['(8, 32, 32, 3) (8, 10)', '131.820 0.75 1.0']
  assert all(f'# {line}' in README for line in lines)


def test_named_files_exist():
  links = re.findall(r'\]\(([^)h#][^)]*)\)', README)
  configs = re.findall(r'configs/\w+\.py', README)
  assert links and configs
  for name in {*links, *configs}:
    assert (ROOT / name).exists(), f'README.md names {name}, which is not there'


def test_make_targets_exist():
  targets = set(
    re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M)
  )
  named = re.findall(r'^    make ([\w-]+)', README, re.M)
  assert named and set(named) <= targets
