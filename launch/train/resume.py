"""Going on with another config: what may change, and what that takes."""

import json
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from launch.checkpoints import manifest
from launch.config import (
  RESUMABLE_FIELDS,
  SAFE_FIELDS,
  Config,
  config_json,
  flatten,
  identity,
)
from launch.workdir import config_file
from launch.workdir.metrics import read_metrics

_ABSENT = '(absent)'


def check_resume(
  old: Mapping[str, Any], new: Config, allowed: Collection[str] = ()
) -> dict[str, str]:
  """Checks that a run with the config `old` can go on with `new`.

  Args:
    old: the config of the run as JSON gives it, flattened or not.
    new: the config here.
    allowed: fields of `launch.config.RESUMABLE_FIELDS` that may change too.

  Returns:
    A sentence about each change that is accepted, by its field.

  Raises:
    ValueError: other fields differ; the message lists them with both values,
      and the flag that would allow those that can be.
  """
  there = flatten(json.loads(json.dumps(old)))
  here = flatten(json.loads(config_json(new)))
  accepted, refused, needed = {}, [], []
  for name in sorted(there.keys() | here.keys()):
    before, after = there.get(name, _ABSENT), here.get(name, _ABSENT)
    if before == after:
      continue
    change = f'{name}: {before!r} there, {after!r} here'
    allowable = name in RESUMABLE_FIELDS and _fits(name, before, after)
    same = identity(name, before) == identity(name, after)
    if same or name in SAFE_FIELDS or (allowable and name in allowed):
      accepted[name] = f'going on with {change}'
      continue
    refused.append(change)
    if allowable:
      needed.append(name)
  if not refused:
    return accepted
  remedy = 'choose another --workdir, or the config of that run'
  if needed and len(needed) == len(refused):
    names = ','.join(sorted({*needed, *allowed}))
    remedy += f', or go on all the same with --allow_resume_change={names}'
  raise ValueError(f'another config ({"; ".join(refused)}); {remedy}')


def _fits(name: str, before: Any, after: Any) -> bool:
  """Says whether the state of a run is of the same form after a change."""
  # SGD without momentum keeps none.
  return name != 'optimizer.momentum' or bool(before) == bool(after)


def check_allowed(config: Config, allowed: Collection[str]) -> None:
  """Checks --allow_resume_change.

  Raises:
    ValueError: a field is not in the config, or may never change.
  """
  fields = flatten(config)
  for name in allowed:
    if name not in fields:
      raise ValueError(
        f'--allow_resume_change={name}: the config has no such field'
      )
    if name not in SAFE_FIELDS | RESUMABLE_FIELDS:
      allowable = ', '.join(sorted(RESUMABLE_FIELDS & fields.keys()))
      raise ValueError(
        f'--allow_resume_change={name}: with another {name} it is another run; '
        f'what can be allowed to change is {allowable}'
      )


def check_workdir(
  config: Config, workdir: pathlib.Path, allowed: Collection[str] = ()
) -> dict[str, str]:
  """Checks that `workdir` holds this run or none.

  Args:
    config: the config of this process.
    workdir: the folder of the run.
    allowed: as in `check_resume`.

  Returns:
    A sentence about each change that is accepted, by its field.

  Raises:
    ValueError: its config.json cannot be read or differs in what may not
      change, or `allowed` names a field that never may.
  """
  check_allowed(config, allowed)
  path = workdir / 'config.json'
  # A link to nothing is not there to `exists`.
  if not path.exists() and not path.is_symlink():
    if manifest.steps(workdir / 'checkpoints') or read_metrics(workdir):
      raise ValueError(
        f'{workdir} has checkpoints or metrics.jsonl and no config.json, which '
        'says what they are of; put it back, or choose another --workdir'
      )
    return {}
  try:
    old = config_file.read(path)
  except ValueError as error:
    raise ValueError(
      f'{error}: it says what is trained in {workdir}; put it back, or choose '
      'another --workdir'
    ) from error
  try:
    changes = check_resume(old, config, allowed)
  except ValueError as error:
    raise ValueError(f'{workdir} holds a run with {error}') from error
  return changes
