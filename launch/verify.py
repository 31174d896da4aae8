"""Checks every checkpoint of a run: `python -m launch.verify WORKDIR`.

Reads all their files against their manifests, newest first, as a resumed run
does with those that it needs; changes nothing. Exit code 0: all are as they
were saved. 4: one is damaged, or there is none.
"""

import contextlib
import pathlib
import sys
import time
from collections.abc import Sequence

from launch.checkpoints import manifest
from launch.shell.exit_codes import (
  EXPECTED,
  ExitCode,
  classify_errors,
  report_error,
)


def verify(workdir: pathlib.Path) -> dict[int, str | None]:
  """Returns what is wrong with each checkpoint, newest first; None: nothing.

  One that the run gives up meanwhile is left out.

  Raises:
    FileNotFoundError: there are none.
    OSError: a file cannot be read now.
  """
  if not workdir.is_dir():
    raise FileNotFoundError(f'{workdir} is no folder of a run')
  folder = workdir / 'checkpoints'
  while there := manifest.steps(folder):
    found: dict[int, str | None] = {}
    for step in reversed(there):
      path = folder / str(step)
      try:
        manifest.check(path, f'checkpoint {step}')
        found[step] = None
      except ValueError as error:
        if path.exists():
          found[step] = str(error)
    if found:
      return found
  raise FileNotFoundError(f'{folder} holds no checkpoint')


def main(argv: Sequence[str]) -> int:
  """Verifies the run that `argv` names; returns the exit code."""
  if len(argv) != 1 or argv[0].startswith('-'):
    print('usage: python -m launch.verify WORKDIR', file=sys.stderr)
    return ExitCode.CONFIG
  workdir = pathlib.Path(argv[0])
  begun = time.perf_counter()
  try:
    with classify_errors(ExitCode.CHECKPOINT):
      found = verify(workdir)
  except EXPECTED as error:
    return report_error(error)
  seconds = time.perf_counter() - begun
  for step, wrong in found.items():
    print(f'step {step}: {"damaged: " + wrong if wrong else "whole"}')
  good = [step for step, wrong in found.items() if not wrong]
  size = 0
  for step in good:
    with contextlib.suppress(ValueError, OSError):  # given up meanwhile
      content = manifest.read(workdir / 'checkpoints' / str(step))
      size += sum(about['bytes'] for about in content['files'].values())
  if good:
    print(
      f'a run goes on from step {good[0]} ({size / 1e6:.1f} MB whole; '
      f'{size / seconds / 1e9:.2f} GB/s)'
    )
  bad = [step for step, wrong in found.items() if wrong]
  if bad:
    print(
      f'error: {workdir}: damaged checkpoints {bad}; '
      + (
        'a run that goes on sets them aside by itself, one that has ended '
        'does not'
        if good
        else 'no run can go on from here: put back a copy'
      ),
      file=sys.stderr,
    )
  return ExitCode.CHECKPOINT if bad else 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
