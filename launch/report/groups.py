"""Groups of a report: runs that differ only in the seed, with unique names."""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from launch.report.runs import RunFolder, differing
from launch.report.sweep_plan import SweepPlan, read_sweep_plan


class Group(NamedTuple):
  """A line of a report.

  Attributes:
    name: unique in the report.
    runs: runs that differ only in the seed; may be empty if it is planned.
    planned: the number of runs that a sweep plans; 0 if it is in no sweep.
    paper: the numbers of a paper, by metric.
    baseline: the name of the group to which its step time is relative; may be
      empty.
  """

  name: str
  runs: list[RunFolder]
  planned: int
  paper: dict[str, float]
  baseline: str


class _SweepEntry(NamedTuple):
  """An entry of a sweep: the folder of the sweep, and the entry's name."""

  folder: pathlib.Path
  name: str


class _UnnamedGroup(NamedTuple):
  """A group without its name yet: its runs, and its entry of a sweep if any."""

  runs: list[RunFolder]
  planned_as: _SweepEntry | None

  @property
  def entry(self) -> str | None:
    """The short name that it may get: the name of a sweep entry."""
    if self.planned_as is not None:
      return self.planned_as.name
    entries = {run.entry for run in self.runs}
    return entries.pop() if len(entries) == 1 and '=' in min(entries) else None

  @property
  def folder(self) -> pathlib.Path | None:
    """The folder of its sweep or of all of its runs, if there is only one."""
    if self.planned_as is not None:
      return self.planned_as.folder
    folders = {run.path.parent for run in self.runs}
    return folders.pop() if len(folders) == 1 else None


def group_runs(
  runs: Sequence[RunFolder], folders: Sequence[pathlib.Path] = ()
) -> list[Group]:
  """Groups runs that differ only in the seed, and names the groups.

  The entry of a sweep (or a folder named like one) gives the name. If two
  groups would get the same name, one in another folder is called
  `folder/entry`, and otherwise the fields that differ are appended. Other
  groups are named by the fields in which they differ from each other, or a
  single one by its folder.

  Args:
    runs: in any order.
    folders: the folders of the report. If they, or the parents of runs, have a
      sweep.json, its entries come first, started or not. Two folders with equal
      sweep.json are two parts of one sweep.

  Raises:
    ValueError: a sweep.json is invalid; names it.
  """
  parents = dict.fromkeys([*folders, *(run.path.parent for run in runs)])
  sweeps = {parent: read_sweep_plan(parent) for parent in parents}
  unnamed = _group(runs, sweeps)
  names = _names(unnamed, folders[0] if folders else None)
  named = list(zip(names, unnamed, strict=True))
  groups = []
  for name, group in named:
    planned, paper, baseline = 0, {}, ''
    if group.planned_as is not None:
      folder, entry = group.planned_as
      sweep = sweeps[folder]
      planned, paper = sweep.planned[entry], sweep.paper.get(entry, {})
      wanted = _SweepEntry(folder, sweep.baseline_of(entry))
      baseline = next((x for x, g in named if g.planned_as == wanted), '')
    groups.append(Group(name, group.runs, planned, paper, baseline))
  return groups


def _group(
  runs: Sequence[RunFolder], sweeps: dict[pathlib.Path, SweepPlan]
) -> list[_UnnamedGroup]:
  # The first of several folders with the same sweep.json represents them all.
  first = {
    folder: next(f for f, other in sweeps.items() if other == sweep)
    for folder, sweep in sweeps.items()
  }
  by_entry: dict[_SweepEntry, list[_UnnamedGroup]] = {
    _SweepEntry(folder, entry): []
    for folder in dict.fromkeys(first.values())
    for entry in sweeps[folder].planned
  }
  others: list[RunFolder] = []
  for run in runs:
    entry = _SweepEntry(first[run.path.parent], run.entry)
    if entry in by_entry:
      _add(by_entry[entry], run, entry)
    else:
      others.append(run)
  known = [group for groups in by_entry.values() for group in groups]
  rest: list[_UnnamedGroup] = []
  for run in others:
    # It may be one more seed of an entry, in any folder.
    same = [group for group in known if _same(group.runs[0], run)]
    if same:
      same[0].runs.append(run)
    else:
      _add(rest, run, None)
  planned = [
    group
    for entry, groups in by_entry.items()
    for group in groups or [_UnnamedGroup([], entry)]
  ]
  return planned + rest


def _add(
  groups: list[_UnnamedGroup], run: RunFolder, entry: _SweepEntry | None
) -> None:
  for group in groups:
    if _same(group.runs[0], run):
      group.runs.append(run)
      return
  groups.append(_UnnamedGroup([run], entry))


def _same(one: RunFolder, other: RunFolder) -> bool:
  texts = (json.dumps(run.fields, sort_keys=True) for run in (one, other))
  return len(set(texts)) == 1


def _names(
  groups: Sequence[_UnnamedGroup], first: pathlib.Path | None
) -> list[str]:
  unnamed = [run for group in groups if not group.entry for run in group.runs]
  fields = differing(unnamed)
  names = []
  for group in groups:
    if group.entry:
      rivals = [other for other in groups if other.entry == group.entry]
      names.append(_entry_name(group.entry, group, rivals, first))
    else:
      by_fields = _by_fields(group.runs[0], fields)
      names.append(by_fields or _by_folder(group.runs))
  # A folder may have the same name as the fields of another group.
  return [
    f'{name} ({group.runs[0].path})'
    if names.count(name) > 1 and group.runs
    else name
    for name, group in zip(names, groups, strict=True)
  ]


def _entry_name(
  entry: str,
  group: _UnnamedGroup,
  rivals: Sequence[_UnnamedGroup],
  first: pathlib.Path | None,
) -> str:
  """Returns a name that tells a group apart from rivals with its entry."""
  if len(rivals) == 1:
    return entry
  folders = {rival.folder for rival in rivals}
  if len(folders) == len(rivals) and None not in folders:
    return entry if group.folder == first else f'{group.folder}/{entry}'
  runs = [run for rival in rivals for run in rival.runs]
  fields = _by_fields(group.runs[0], differing(runs)) if group.runs else ''
  return ', '.join(filter(None, (entry, fields)))


def _by_fields(run: RunFolder, fields: Sequence[str]) -> str:
  return ', '.join(f'{x}={run.fields[x]}' for x in fields if x in run.fields)


def _by_folder(runs: Sequence[RunFolder]) -> str:
  path = os.path.commonpath([run.path.resolve() for run in runs])
  return os.path.basename(path) or path
