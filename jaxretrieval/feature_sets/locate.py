"""Finds a feature set by its name, or prepares it from its source.

A section of the config names a set:

    config.data = {
      name: 'features',   # or one of MODULES
      source: '',         # folder of captions and precomputed features; with
                          # 'features' the folder of a feature set
      dir: '',            # folder of prepared sets; empty for $TFDS_DATA_DIR,
                          # else ~/tensorflow_datasets
      text_encoder: '',   # prefix of its id, if there are sets of several
      ...
    }
"""

import os
import pathlib
import sys
from typing import Any

from tqdm import tqdm

from jaxmix.files import atomic
from jaxretrieval.feature_sets import checks, feature_set
from jaxretrieval.feature_sets.datasets import (
  arrays,
  coco_captions,
  flickr8k,
  multi30k,
  ready_made,
  xtd10,
)

MODULES = {
  'flickr8k': flickr8k,
  'multi30k': multi30k,
  'coco_captions': coco_captions,
  'xtd10': xtd10,
  'arrays': arrays,
}


def find(fields: Any, section: str = 'config.data') -> pathlib.Path:
  """Returns the folder of the feature set that a config section names.

  Args:
    fields: a mapping with `name`, `source`, `dir` and `text_encoder`, see
      above. Except with the name 'features', `source` is required only the
      first time, when the set is prepared in `dir`. The case of `text_encoder`
      is ignored.
    section: name of the section in error messages.

  Returns:
    The folder, for `feature_set.read_info` and `feature_set.read`.

  Raises:
    FileNotFoundError: the set, or a file of its source, is missing.
    ValueError: the name is unknown, sets of several encoders match, or the
      existing set was made from other files than `source`.
  """
  name, source = fields['name'], fields['source']
  if name not in (*MODULES, 'features'):
    raise ValueError(
      f'{section}.name={name!r} must be one of '
      f'{", ".join([*MODULES, "features"])}'
    )
  if name == 'features' and not source:
    raise ValueError(
      f"{section}.name='features' requires {section}.source, the folder of a "
      'feature set: make one with python -m jaxretrieval.extract or with make '
      'retrieval (runs/numbers/set)'
    )
  root = fields['dir'] or os.environ.get('TFDS_DATA_DIR')
  root = pathlib.Path(root or '~/tensorflow_datasets').expanduser()
  if name == 'features':
    folders = [pathlib.Path(source).expanduser()]
  elif source:
    path = pathlib.Path(source).expanduser()
    if not path.is_dir():
      raise FileNotFoundError(f'{section}.source={source!r} is not a folder')
    folders = [_prepare(name, path, root)]
  else:
    folders = sorted(
      path.parent
      for path in root.glob(f'{name}/*/{checks.VERSION}/{feature_set.RECORD}')
    )
  infos = {path: feature_set.read_info(path) for path in folders}
  return _select(infos, fields, root, section)


def _select(
  infos: dict[pathlib.Path, feature_set.FeatureSetInfo],
  fields: Any,
  root: pathlib.Path,
  section: str,
) -> pathlib.Path:
  """Returns the one folder whose text encoder matches the config."""
  name = fields['name']
  if not infos:
    others = sorted(str(path) for path in root.glob(f'{name}/*/*'))
    other = f' ({others[0]} has another version)' if others else ''
    raise FileNotFoundError(
      f'{name} is not in {root}: {name}/<encoders>/{checks.VERSION}/'
      f'{feature_set.RECORD} is missing{other}. Set {section}.source to the '
      'folder of its captions and features to prepare it, set '
      f'{section}.dir to the folder of prepared sets, or set '
      f"{section}.name='features' and {section}.source to a folder written by "
      'python -m jaxretrieval.extract'
    )
  prefix = fields['text_encoder']
  matches = [
    path
    for path, info in infos.items()
    if info.encoders.text.lower().startswith(prefix.lower())
  ]
  if len(matches) != 1:
    sets = ', '.join(path.parent.name for path in infos)
    raise ValueError(
      f'{section}.text_encoder={prefix!r} matches {len(matches)} of the sets '
      f'in {root / name}: {sets}. Set it to a prefix of the id of one text '
      f"encoder, or set {section}.name='features' and {section}.source to the "
      'folder of one set'
    )
  return matches[0]


def _prepare(
  name: str, source: pathlib.Path, root: pathlib.Path
) -> pathlib.Path:
  """Returns the set made from `source`, after writing it if necessary."""
  module = MODULES[name]
  if module is flickr8k:
    encoders = flickr8k.encoders(source)
  else:
    encoders = ready_made.encoders(source)
  hashes = _file_hashes(source, module.FILES + ready_made.FILES)
  folder = feature_set.folder_of(root, name, encoders)
  if folder.exists():
    existing = feature_set.read_info(folder)
    if existing.source != hashes or existing.encoders != encoders:
      changed = sorted(
        path
        for path in hashes.keys() | existing.source.keys()
        if hashes.get(path) != existing.source.get(path)
      )
      raise ValueError(
        f'{folder} was made from other files than source={str(source)!r} '
        f'(changed: {", ".join(changed) or "the encoders"}): remove that '
        'folder, choose another dir, or leave source empty'
      )
    return folder
  tqdm.write(f'Preparing {folder} from {source}', file=sys.stderr)
  licence, namespace = module.LICENCE, module.NAMESPACE
  if module is flickr8k:
    splits = flickr8k.read_splits(source)
  elif module is arrays:
    splits = arrays.read_splits(source)
    licence = ready_made.about(source).get('licence', licence)
    namespace = arrays.namespace(splits)
  else:
    splits = ready_made.aligned(source, module.read(source))
  return feature_set.write(
    root,
    name,
    namespace=namespace,
    encoders=encoders,
    licence=licence,
    splits=splits,
    source=hashes,
  )


def _file_hashes(
  source: pathlib.Path, patterns: tuple[str, ...]
) -> dict[str, str]:
  """Returns the sha256 of each file that a set is made from, by name."""
  paths = {path for pattern in patterns for path in source.glob(pattern)}
  named = {path.relative_to(source).as_posix(): path for path in paths}
  return {
    name: atomic.file_fingerprint(named[name])
    for name in tqdm(sorted(named), f'sha256 of {source.name}', delay=5)
  }
