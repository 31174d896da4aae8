"""Where a feature set is: prepared once from its source, then found by name."""

import os
import pathlib
import sys
from typing import Any

from tqdm import tqdm

from jaxretrieval import features, records
from jaxretrieval.datasets import (
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


def find(ref: Any) -> pathlib.Path:
  """The folder of the feature set that a block of the config names.

  Args:
    ref: `config.data`, or any mapping with `name`, `source` and `dir`. With
      the name 'features', `source` is the folder of a feature set; else the
      folder of the publisher's files and of features that go with them, needed
      only the first time. `dir` is where sets are prepared; empty for
      $TFDS_DATA_DIR, else ~/tensorflow_datasets.

  Returns:
    The folder, for `features.read_info` and `features.read`.

  Raises:
    FileNotFoundError: it is not there, or files of the source are missing.
    ValueError: an unknown name; sets of several encoders under this name; or
      what is there was made from other files than `source`.
  """
  name, source = ref['name'], ref['source']
  if name == 'features':
    features.read_info(source)
    return pathlib.Path(source).expanduser()
  if name not in MODULES:
    raise ValueError(
      f'config.data.name={name!r} is not one of {[*MODULES, "features"]}'
    )
  root = ref['dir'] or os.environ.get('TFDS_DATA_DIR')
  root = pathlib.Path(root or '~/tensorflow_datasets').expanduser()
  if source:
    return _prepared_from(name, pathlib.Path(source).expanduser(), root)
  there = sorted(
    path.parent
    for path in root.glob(f'{name}/*/{records.VERSION}/{features.RECORD}')
  )
  if len(there) > 1:
    raise ValueError(
      f'{root / name} has feature sets of several encoders: '
      f'{", ".join(path.parent.name for path in there)}. Set config.data.name='
      f"'features' and config.data.source to the folder of one, e.g. {there[0]}"
    )
  if not there:
    raise FileNotFoundError(
      f'{name} is not in {root}. Set config.data.source to the folder of its '
      'files and features, to have it prepared there, or config.data.dir to '
      "the folder of sets prepared before; or name='features' and the folder "
      'that python -m jaxretrieval.extract has written'
    )
  return there[0]


def _prepared_from(
  name: str, source: pathlib.Path, root: pathlib.Path
) -> pathlib.Path:
  if not source.is_dir():
    raise FileNotFoundError(f'config.data.source={str(source)!r} is no folder')
  module = MODULES[name]
  if module is flickr8k:
    encoders = flickr8k.encoders(source)
  else:
    encoders = ready_made.encoders(source)
  sums = _sums(source, module.FILES + ready_made.FILES)
  folder = features.folder_of(root, name, encoders)
  if folder.exists():
    there = features.read_info(folder)
    if there.source != sums or there.encoders != encoders:
      differs = sorted(
        path
        for path in sums.keys() | there.source.keys()
        if sums.get(path) != there.source.get(path)
      )
      raise ValueError(
        f'config.data.source={str(source)!r} is not what {folder} was made '
        f'from ({", ".join(differs) or "the encoders"} differ): remove that '
        'folder, choose another config.data.dir, or leave config.data.source '
        'empty'
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
  return features.write(
    root,
    name,
    namespace=namespace,
    encoders=encoders,
    licence=licence,
    splits=splits,
    source=sums,
  )


def _sums(source: pathlib.Path, patterns: tuple[str, ...]) -> dict[str, str]:
  """The sha256 of each file that a set is made from, by its name."""
  paths = {path for pattern in patterns for path in source.glob(pattern)}
  named = {path.relative_to(source).as_posix(): path for path in paths}
  return {
    name: records.digest(named[name])
    for name in tqdm(sorted(named), f'sha256 of {source.name}', delay=5)
  }
