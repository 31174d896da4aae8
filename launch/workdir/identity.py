"""Run identity: the fields and data that a resumed run must share.

Every field of the config is part of the identity, except for those listed in
`SAFE_FIELDS` and `RESUMABLE_FIELDS`. A checkpoint stores `run_identity` and is
restored by a run of the same identity only; to bind something else to a run,
add it there.
"""

import hashlib
import json
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from launch.config import Config, config_json, flatten

# Fields that a resumed run may change, because no computed number depends on
# them. (For the location of evaluation data see `field_identity`.)
SAFE_FIELDS = frozenset(
  {
    'log_every',
    'eval_every',
    'checkpoint_every',
    'keep_checkpoints',
    'max_save_failures',
    'tensorboard',
    'data.source',
    'data.dir',
    'data.download',
    'data.workers',
  }
)
# Fields that a resumed run may change if --allow_resume_change names them: the
# saved state still fits, but no single run from step 0 gives the same numbers.
RESUMABLE_FIELDS = frozenset(
  {
    'epochs',
    'steps_per_dispatch',
    'max_skipped_steps',
    'optimizer.lr',
    'optimizer.schedule',
    'optimizer.warmup_epochs',
    'optimizer.weight_decay',
    'optimizer.momentum',
    'optimizer.nesterov',
    'optimizer.b1',
    'optimizer.b2',
  }
)
_ABSENT = '(absent)'


def run_identity(
  config: Config,
  *,
  examples: int,
  data_fingerprint: str | None,
  threads: int | None = None,
) -> dict[str, str | int | None]:
  """Returns the values that a checkpoint stores and a resumed run must have.

  Args:
    config: the config of the run.
    examples: number of training examples. Like the batch size, it fixes the
      order of the examples.
    data_fingerprint: that of the training data; None if they have none.
    threads: CPU threads of a process, if results depend on them; else None.
  """
  identity = {
    'seed': config.seed,
    'batch_size': config.batch_size,
    'examples': examples,
    'data': data_fingerprint,
    'config': config_fingerprint(config),
  }
  if threads is not None:
    identity['threads (NPROC)'] = threads
  return identity


def shared_fields(config: Config) -> dict[str, Any]:
  """Returns the fields that all processes of a run must agree on.

  These are all fields but those that tell where data are stored.
  """
  return {
    f'config.{name}': value
    for name, value in flatten(config).items()
    if not name.startswith('data.') and not is_location(name)
  }


def config_fingerprint(config: Config) -> str:
  """Returns a hash of the fields that belong to the identity of the run."""
  fields = flatten(json.loads(config_json(config)))
  kept = {
    name: field_identity(name, value)
    for name, value in sorted(fields.items())
    if name not in SAFE_FIELDS | RESUMABLE_FIELDS
  }
  return hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:16]


def field_identity(name: str, value: Any) -> Any:
  """Returns the part of a field's value that belongs to the identity.

  Evaluation data may be moved, but only to a folder of the same name: published
  data differ from those that are generated where there are none.

  >>> field_identity('evals.corruption.source', '/data/CIFAR-100-C/')
  'CIFAR-100-C'
  >>> field_identity('model.name', 'a/b')
  'a/b'
  """
  if is_location(name) and isinstance(value, str):
    return pathlib.PurePath(value).name
  return value


def is_location(name: str) -> bool:
  """Returns whether a field tells where evaluation data are stored."""
  return name.startswith('evals.') and name.endswith(('.source', '.dir'))


def check_resume(
  old: Mapping[str, Any], new: Config, allowed: Collection[str] = ()
) -> dict[str, str]:
  """Checks that a run with the config `old` can be resumed with `new`.

  Args:
    old: the config of the run as read from JSON, flattened or not.
    new: the config of this process.
    allowed: fields of `RESUMABLE_FIELDS` that may change too.

  Returns:
    A sentence about each accepted change, by its field.

  Raises:
    ValueError: other fields differ. The message lists them with both values,
      and the flag that allows the change where one does.
  """
  saved = flatten(json.loads(json.dumps(old)))
  current = flatten(json.loads(config_json(new)))
  accepted, refused, needed = {}, [], []
  for name in sorted(saved.keys() | current.keys()):
    before, after = saved.get(name, _ABSENT), current.get(name, _ABSENT)
    if before == after:
      continue
    change = f'{name}: {before!r} saved, {after!r} now'
    resumable = name in RESUMABLE_FIELDS and _state_fits(name, before, after)
    same = field_identity(name, before) == field_identity(name, after)
    if same or name in SAFE_FIELDS or (resumable and name in allowed):
      accepted[name] = f'resuming with {change}'
      continue
    refused.append(change)
    if resumable:
      needed.append(name)
  if not refused:
    return accepted
  remedy = 'choose another --workdir, or use the config of that run'
  if needed and len(needed) == len(refused):
    names = ','.join(sorted({*needed, *allowed}))
    remedy += f', or resume with --allow_resume_change={names}'
  raise ValueError(f'another config ({"; ".join(refused)}); {remedy}')


def _state_fits(name: str, before: Any, after: Any) -> bool:
  """Returns whether a state keeps its structure when a field changes."""
  # Without momentum, SGD has no state.
  return name != 'optimizer.momentum' or bool(before) == bool(after)


def check_allowed(config: Config, allowed: Collection[str]) -> None:
  """Checks the fields that --allow_resume_change names.

  Raises:
    ValueError: a field is not in the config, or may never change.
  """
  fields = flatten(config)
  for name in allowed:
    if name not in fields:
      raise ValueError(
        f'--allow_resume_change={name}: the config has no field of this name'
      )
    if name not in SAFE_FIELDS | RESUMABLE_FIELDS:
      allowable = ', '.join(sorted(RESUMABLE_FIELDS & fields.keys()))
      raise ValueError(
        f'--allow_resume_change={name}: this field can never change in a '
        f'resumed run; the fields that can be allowed to change are {allowable}'
      )
