"""Run folders: the runs below some folders, as a report reads them."""

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
from launch.workdir.metrics import MetricRecord, final_metrics, read_metrics


class RunFolder(NamedTuple):
  """One run: its config without the seed, its metrics, its final metrics.

  Attributes:
    path: the folder.
    entry: the folder's name without the seed: the entry of a sweep.
    seed: the seed in the config; None if it has none.
    fields: the config by dotted path, without the seed and without fields that
      do not affect the result.
    records: the records of metrics.jsonl.
    final: the metrics of the last evaluation; None if the run is unfinished.
  """

  path: pathlib.Path
  entry: str
  seed: Any
  fields: dict[str, Any]
  records: list[MetricRecord]
  final: dict[str, float] | None


class FoundRuns(NamedTuple):
  """The result of `find_runs`.

  Attributes:
    runs: the runs that could be read, by path.
    errors: a message about each of the others.
  """

  runs: list[RunFolder]
  errors: list[str]


def find_runs(folders: Sequence[pathlib.Path]) -> FoundRuns:
  """Reads the runs at or below `folders`.

  A run that is found twice, or a copy of it, counts once: a repeated value
  would make the standard deviation too small.
  """
  found, seen = FoundRuns([], []), set()

  def unreadable(error: OSError):
    found.errors.append(f'{error.filename}: {error.strerror}')

  for folder in folders:
    for path in _walk(folder, unreadable):
      if path.resolve() in seen:
        continue
      seen.add(path.resolve())
      try:
        run = read_run(path)
        content = json.dumps(
          [run.seed, run.fields, run.records], sort_keys=True
        )
        if run.records and content in seen:
          continue
        seen.add(content)
        found.runs.append(run)
      except (ValueError, OSError) as error:
        text = str(error)
        found.errors.append(text if str(path) in text else f'{path}: {text}')
  return found


def _walk(folder: pathlib.Path, onerror: Any) -> Iterator[pathlib.Path]:
  for path, folders, files in os.walk(folder, onerror=onerror):
    folders.sort()
    if 'config.json' in files:
      if 'sweep.json' not in files:
        folders.clear()
      yield pathlib.Path(path)


def read_run(workdir: pathlib.Path) -> RunFolder:
  """Reads one run.

  Raises:
    ValueError: its config.json is invalid.
    OSError: a file cannot be read.
  """
  fields = flatten(config_file.read(workdir / 'config.json'))
  records = read_metrics(workdir)
  return RunFolder(
    workdir,
    without_seed(workdir.name or workdir.resolve().name),
    fields.get('seed'),
    {
      name: field_identity(name, value)
      for name, value in fields.items()
      if name != 'seed' and name not in SAFE_FIELDS
    },
    records,
    _final(workdir, fields, records),
  )


def _final(
  workdir: pathlib.Path, fields: dict[str, Any], records: list[MetricRecord]
) -> dict[str, float] | None:
  final = final_metrics(workdir)
  if final is None:
    return None
  # Later evaluations of the same checkpoint, by launch.evaluate.
  last = max(record['step'] for record in records)
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
