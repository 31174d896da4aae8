"""The rows of a report: runs that differ only in the seed, and their names."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from launch.report.runs import RunFolder, differing
from launch.report.sweep_plan import Sweep, read_sweep


class Group(NamedTuple):
  """A row of a report.

  Attributes:
    name: no other row has it.
    runs: those that differ only in the seed; may be empty, if planned.
    planned: how many runs a sweep is to have of it; 0 if none plans it.
    paper: by metric, what a paper says.
    baseline: the name of the row that its sweep compares it with; may be empty.
  """

  name: str
  runs: list[RunFolder]
  planned: int
  paper: dict[str, float]
  baseline: str


class _Home(NamedTuple):
  """A row of a sweep: where it lies, and its name."""

  folder: pathlib.Path
  row: str


class _Entry(NamedTuple):
  """A group that has no name yet: its runs, and which row of a sweep it is."""

  runs: list[RunFolder]
  home: _Home | None

  @property
  def row(self) -> str | None:
    """The short name that it might have: of a sweep, or like one."""
    if self.home is not None:
      return self.home.row
    rows = {run.row for run in self.runs}
    return rows.pop() if len(rows) == 1 and '=' in min(rows) else None

  @property
  def place(self) -> pathlib.Path | None:
    """The one folder in which it lies, if it is one."""
    if self.home is not None:
      return self.home.folder
    places = {run.path.parent for run in self.runs}
    return places.pop() if len(places) == 1 else None


def group_runs(
  runs: Sequence[RunFolder], folders: Sequence[pathlib.Path] = ()
) -> list[Group]:
  """Returns runs that differ only in the seed as one row each, with its name.

  A row of a sweep (or a folder named like one) is called so. Where two rows
  would be, one of another folder is called `folder/row`, and else the fields
  that set them apart are added. Other runs are called by the fields that set
  them apart from each other, or a single one by its folder.

  Args:
    runs: in any order.
    folders: those that the report is of; where they or those just above runs
      have a sweep.json, its rows come first, begun or not. Two folders with the
      same one are two halves of one sweep.

  Raises:
    ValueError: a sweep.json is broken; names it.
  """
  places = dict.fromkeys([*folders, *(run.path.parent for run in runs)])
  sweeps = {place: read_sweep(place) for place in places}
  entries = _entries(runs, sweeps)
  names = _names(entries, folders[0] if folders else None)
  named = list(zip(names, entries, strict=True))
  groups = []
  for name, entry in named:
    planned, paper, baseline = 0, {}, ''
    if entry.home is not None:
      folder, row = entry.home
      sweep = sweeps[folder]
      planned, paper = sweep.planned[row], sweep.paper.get(row, {})
      home = _Home(folder, sweep.baseline_of(row))
      baseline = next((x for x, e in named if e.home == home), '')
    groups.append(Group(name, entry.runs, planned, paper, baseline))
  return groups


def _entries(
  runs: Sequence[RunFolder], sweeps: dict[pathlib.Path, Sweep]
) -> list[_Entry]:
  # Of folders with the same sweep.json the first stands for all.
  first = {
    place: next(p for p, other in sweeps.items() if other == sweep)
    for place, sweep in sweeps.items()
  }
  homes: dict[_Home, list[_Entry]] = {
    _Home(place, row): []
    for place in dict.fromkeys(first.values())
    for row in sweeps[place].planned
  }
  others: list[RunFolder] = []
  for run in runs:
    home = _Home(first[run.path.parent], run.row)
    if home in homes:
      _join(homes[home], run, home)
    else:
      others.append(run)
  known = [entry for entries in homes.values() for entry in entries]
  rest: list[_Entry] = []
  for run in others:
    # One more seed of a row, wherever it lies.
    same = [entry for entry in known if _same(entry.runs[0], run)]
    if same:
      same[0].runs.append(run)
    else:
      _join(rest, run, None)
  planned = [
    entry
    for home, entries in homes.items()
    for entry in entries or [_Entry([], home)]
  ]
  return planned + rest


def _join(entries: list[_Entry], run: RunFolder, home: _Home | None) -> None:
  for entry in entries:
    if _same(entry.runs[0], run):
      entry.runs.append(run)
      return
  entries.append(_Entry([run], home))


def _same(one: RunFolder, other: RunFolder) -> bool:
  texts = (json.dumps(run.fields, sort_keys=True) for run in (one, other))
  return len(set(texts)) == 1


def _names(entries: Sequence[_Entry], first: pathlib.Path | None) -> list[str]:
  unnamed = [run for entry in entries if not entry.row for run in entry.runs]
  apart = differing(unnamed)
  names = []
  for entry in entries:
    if entry.row:
      rivals = [other for other in entries if other.row == entry.row]
      names.append(_name_of_row(entry.row, entry, rivals, first))
    else:
      fields = _by_fields(entry.runs[0], apart)
      names.append(fields or _by_folder(entry.runs))
  # A folder may have the name that another's fields give.
  return [
    f'{name} ({entry.runs[0].path})'
    if names.count(name) > 1 and entry.runs
    else name
    for name, entry in zip(names, entries, strict=True)
  ]


def _name_of_row(
  row: str,
  entry: _Entry,
  rivals: Sequence[_Entry],
  first: pathlib.Path | None,
) -> str:
  if len(rivals) == 1:
    return row
  places = {rival.place for rival in rivals}
  if len(places) == len(rivals) and None not in places:
    return row if entry.place == first else f'{entry.place}/{row}'
  runs = [run for rival in rivals for run in rival.runs]
  fields = _by_fields(entry.runs[0], differing(runs)) if entry.runs else ''
  return ', '.join(filter(None, (row, fields)))


def _by_fields(run: RunFolder, apart: Sequence[str]) -> str:
  return ', '.join(f'{x}={run.fields[x]}' for x in apart if x in run.fields)


def _by_folder(runs: Sequence[RunFolder]) -> str:
  path = os.path.commonpath([run.path.resolve() for run in runs])
  return os.path.basename(path) or path
