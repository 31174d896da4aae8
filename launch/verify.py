"""Verification of all checkpoints: `python -m launch.verify WORKDIR`.

Compares all files with their manifests, newest checkpoint first, as a resumed
run does; changes nothing. The exit code is 0 if all are undamaged, and 4 if one
is damaged or there is none.
"""

import argparse
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
  """Returns the damage of each checkpoint, newest first; None if undamaged.

  A checkpoint that the run deletes meanwhile is left out.

  Raises:
    FileNotFoundError: there are no checkpoints.
    OSError: a file cannot be read at present.
  """
  if not workdir.is_dir():
    raise FileNotFoundError(f'{workdir} is not a folder')
  folder = workdir / 'checkpoints'
  while steps := manifest.steps(folder):
    damage: dict[int, str | None] = {}
    for step in reversed(steps):
      path = folder / str(step)
      try:
        manifest.check(path, f'checkpoint {step}')
        damage[step] = None
      except ValueError as error:
        if path.exists():
          damage[step] = str(error)
    if damage:
      return damage
  raise FileNotFoundError(f'{folder} holds no checkpoint')


def main(argv: Sequence[str]) -> int:
  """Verifies the run that `argv` names; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m launch.verify',
    description='Checks all checkpoints of a run; changes nothing.',
  )
  parser.add_argument('workdir', type=pathlib.Path, help='folder of the run')
  workdir: pathlib.Path = parser.parse_args(argv).workdir
  start = time.perf_counter()
  try:
    with classify_errors(ExitCode.CHECKPOINT):
      damage = verify(workdir)
  except EXPECTED as error:
    return report_error(error)
  seconds = time.perf_counter() - start
  for step, error in damage.items():
    print(f'step {step}: {"damaged: " + error if error else "undamaged"}')
  good = [step for step, error in damage.items() if not error]
  size = 0
  for step in good:
    with contextlib.suppress(ValueError, OSError):  # deleted meanwhile
      content = manifest.read(workdir / 'checkpoints' / str(step))
      size += sum(record['bytes'] for record in content['files'].values())
  if good:
    print(
      f'a run resumes from step {good[0]} ({size / 1e6:.1f} MB undamaged, '
      f'checked at {size / seconds / 1e9:.2f} GB/s)'
    )
  bad = [step for step, error in damage.items() if error]
  if bad:
    print(
      f'error: {workdir}: damaged checkpoints {bad}; '
      + (
        'a resumed run moves them to the folder damaged, a finished run does '
        'not'
        if good
        else 'no run can resume from here: put back a copy'
      ),
      file=sys.stderr,
    )
  return ExitCode.CHECKPOINT if bad else 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
