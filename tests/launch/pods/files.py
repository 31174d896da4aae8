"""Paths, exit codes and flags for the tests of the cluster files."""

import pathlib
import re
import shlex

from launch.shell.exit_codes import ExitCode

ROOT = pathlib.Path(__file__).resolve().parents[3]
PODS = ROOT / 'launch' / 'pods'
# Exit codes after which a restart resumes the run: a peer failed, or it was
# killed, or it was stopped and has saved. After the others it would fail again.
RESTART = (6, 137, 143)
NO_RESTART = sorted({int(code) for code in ExitCode} - set(RESTART) | {130})
FLAGS = ('--config=c.py:smoke', '--config.mix.weights=(3, 1)', '--workdir=w')


def documented(text: str) -> dict[str, str]:
  """Returns the shell variables that a file lists, with their defaults."""
  lines = re.findall(r'^#: (.*)$', text, re.M)
  words = [shlex.split(line, comments=True) for line in lines]
  assert all(len(w) == 1 for w in words), f'not shell: {lines}'
  return dict(w[0].split('=', 1) for w in words)
