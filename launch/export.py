"""Export: the newest checkpoint as plain arrays, for use without the trainer.

`python -m launch.export WORKDIR [OUT]` writes `OUT` (default `WORKDIR/export`):
`arrays.npz` with the parameters and the model state by path, such as
`params/block1/kernel`, and `export.json` with the config, the step and the
package versions. Reading it needs neither orbax nor the optimizer nor pickle.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxmix.files.atomic import write_text
from launch.checkpoints.storage import read_newest, silence_orbax
from launch.shell.exit_codes import (
  EXPECTED,
  ExitCode,
  classify_errors,
  report_error,
)
from launch.workdir import config_file


def export(workdir: pathlib.Path, out: pathlib.Path) -> int:
  """Exports the newest checkpoint of a run; returns its step.

  Raises:
    FileNotFoundError: `workdir` holds no run, or no checkpoint.
    ValueError: the checkpoint is damaged, or an array has a dtype that npz
      files do not support (bfloat16).
  """
  config = workdir / 'config.json'
  if not config.exists():
    raise FileNotFoundError(
      f'{workdir} is not the folder of a run: it has no config.json'
    )
  step, manifest, state = read_newest(workdir / 'checkpoints')
  arrays = {
    path: array
    for part in ('params', 'model_state')
    for path, array in _flatten(part, state[part])
  }
  unsupported = {
    p: str(a.dtype) for p, a in arrays.items() if a.dtype.kind not in 'biuf'
  }
  if unsupported:
    raise ValueError(
      f'npz files do not support the dtypes of these arrays: {unsupported}'
    )
  out.mkdir(parents=True, exist_ok=True)
  part = out / 'arrays.npz.part'
  with part.open('wb') as file:
    np.savez(file, allow_pickle=False, **arrays)
  part.replace(out / 'arrays.npz')
  record = {
    'step': step,
    'versions': manifest['versions'],
    'config': config_file.read(config),
  }
  write_text(out / 'export.json', json.dumps(record, indent=2) + '\n')
  return step


def _flatten(path: str, tree: Any) -> Iterator[tuple[str, np.ndarray]]:
  if isinstance(tree, Mapping):
    for name, branch in tree.items():
      yield from _flatten(f'{path}/{name}', branch)
  elif tree is not None:
    yield path, np.asarray(tree)


def main(argv: Sequence[str]) -> int:
  """Exports the run that `argv` names; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m launch.export',
    description='Writes the newest checkpoint of a run as plain arrays.',
  )
  parser.add_argument('workdir', type=pathlib.Path, help='folder of the run')
  parser.add_argument(
    'out',
    type=pathlib.Path,
    nargs='?',
    help='folder of the arrays (default: WORKDIR/export)',
  )
  options = parser.parse_args(argv)
  workdir, out = options.workdir, options.out or options.workdir / 'export'
  silence_orbax()
  try:
    if out.resolve() == workdir.resolve():
      raise ValueError(f'out={out} is the folder of the run; name another one')
    with classify_errors(ExitCode.CHECKPOINT):
      step = export(workdir, out)
  except EXPECTED as error:
    return report_error(error)
  print(f'{out}: step {step}')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
