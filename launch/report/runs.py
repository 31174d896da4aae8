"""The runs below some folders, as reports read them."""

import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from launch.config import flatten
from launch.report.sweep_plan import without_seed
from launch.workdir import config_file
from launch.workdir.evaluations import read_evaluations, with_evaluations
from launch.workdir.identity import SAFE_FIELDS, field_identity
from launch.workdir.metrics import Row, final_metrics, read_metrics


class RunFolder(NamedTuple):
  """One run: its config without the seed, its rows, how it ended.

  Attributes:
    path: the folder.
    row: the folder's name without its seed: the row of the sweep it is.
    seed: that of the config, None if it has none.
    fields: the config by dotted path, less the seed and what does not matter.
    rows: the rows of metrics.jsonl.
    final: the metrics of the last evaluation, None if the run has not ended.
  """

  path: pathlib.Path
  row: str
  seed: Any
  fields: dict[str, Any]
  rows: list[Row]
  final: dict[str, float] | None


class Found(NamedTuple):
  """What `find_runs` found.

  Attributes:
    runs: those that could be read, by path.
    broken: a sentence about each of the others.
  """

  runs: list[RunFolder]
  broken: list[str]


def find_runs(folders: Sequence[pathlib.Path]) -> Found:
  """Reads the runs in `folders` and below.

  A run that is found twice, or a copy of it, counts once: its seed would make a
  spread smaller than it is.
  """
  found, seen = Found([], []), set()

  def unreadable(error: OSError):
    found.broken.append(f'{error.filename}: {error.strerror}')

  for folder in folders:
    for path in _walk(folder, unreadable):
      if path.resolve() in seen:
        continue
      seen.add(path.resolve())
      try:
        run = read_run(path)
        content = json.dumps([run.seed, run.fields, run.rows], sort_keys=True)
        if run.rows and content in seen:
          continue
        seen.add(content)
        found.runs.append(run)
      except (ValueError, OSError) as error:
        text = str(error)
        found.broken.append(text if str(path) in text else f'{path}: {text}')
  return found


def _walk(folder: pathlib.Path, onerror: Any) -> Iterator[pathlib.Path]:
  for path, folders, files in os.walk(folder, onerror=onerror):
    folders.sort()
    if 'config.json' in files:
      folders.clear()
      yield pathlib.Path(path)


def read_run(workdir: pathlib.Path) -> RunFolder:
  """Reads one run.

  Raises:
    ValueError: its config.json is none.
    OSError: a file of it cannot be read.
  """
  fields = flatten(config_file.read(workdir / 'config.json'))
  rows = read_metrics(workdir)
  return RunFolder(
    workdir,
    without_seed(workdir.name or workdir.resolve().name),
    fields.get('seed'),
    {
      name: field_identity(name, value)
      for name, value in fields.items()
      if name != 'seed' and name not in SAFE_FIELDS
    },
    rows,
    _final(workdir, fields, rows),
  )


def _final(
  workdir: pathlib.Path, fields: dict[str, Any], rows: list[Row]
) -> dict[str, float] | None:
  final = final_metrics(workdir)
  if final is None:
    return None
  # What launch.evaluate found later of the same checkpoint.
  last = max(row['step'] for row in rows)
  later = [x for x in read_evaluations(workdir) if x.step == last]
  return with_evaluations(final, later, fields)


def differing(runs: Sequence[RunFolder]) -> list[str]:
  """Returns the fields in which the configs of runs differ, sorted."""
  names = {name for run in runs for name in run.fields}
  return [
    name
    for name in sorted(names)
    if len({json.dumps(run.fields.get(name)) for run in runs}) > 1
  ]
