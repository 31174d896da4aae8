"""The cluster files, and what is true of all of them."""

import pathlib
import re
import shlex

from launch.shell.exit_codes import ExitCode

ROOT = pathlib.Path(__file__).resolve().parents[3]
PODS = ROOT / 'launch' / 'pods'
# A run that ended with one of these goes on when it is begun again: it lost a
# peer, was killed, or was told to stop and has saved. Whatever else there is
# would come again.
AGAIN = (6, 137, 143)
NEVER = sorted({int(code) for code in ExitCode} - set(AGAIN) | {130})
FLAGS = ('--config=c.py:smoke', '--config.mix.weights=(3, 1)', '--workdir=w')


def documented(text: str) -> dict[str, str]:
  """The variables that a file lists, with their defaults, as a shell reads."""
  lines = re.findall(r'^#: (.*)$', text, re.M)
  words = [shlex.split(line, comments=True) for line in lines]
  assert all(len(w) == 1 for w in words), f'not lines of shell: {lines}'
  return dict(w[0].split('=', 1) for w in words)
