"""Where a feature set is: prepared once from its source, then found by name."""

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


def find(ref: Any, block: str = 'config.data') -> pathlib.Path:
  """The folder of the feature set that a block of the config names.

  Args:
    ref: a mapping with `name`, `source`, `dir` and `text_encoder`. With the
      name 'features', `source` is the folder of a feature set; else the folder
      of the publisher's files and of features that go with them, needed only
      the first time. `dir` is where sets are prepared; empty for
      $TFDS_DATA_DIR, else ~/tensorflow_datasets. `text_encoder` is how the id
      of the text encoder begins, whatever the case; empty for any.
    block: what messages call it.

  Returns:
    The folder, for `features.read_info` and `features.read`.

  Raises:
    FileNotFoundError: it is not there, or files of the source are missing.
    ValueError: an unknown name; sets of several encoders under this name; or
      what is there was made from other files than `source`.
  """
  name, source = ref['name'], ref['source']
  if name not in (*MODULES, 'features'):
    raise ValueError(
      f'{block}.name={name!r} is not one of {[*MODULES, "features"]}'
    )
  if name == 'features' and not source:
    raise ValueError(
      f"{block}.name='features' needs {block}.source, the folder of a feature "
      'set: python -m jaxretrieval.extract writes one, and so does make '
      'retrieval (runs/numbers/set)'
    )
  root = ref['dir'] or os.environ.get('TFDS_DATA_DIR')
  root = pathlib.Path(root or '~/tensorflow_datasets').expanduser()
  if name == 'features':
    there = [pathlib.Path(source).expanduser()]
  elif source:
    path = pathlib.Path(source).expanduser()
    if not path.is_dir():
      raise FileNotFoundError(f'{block}.source={source!r} is no folder')
    there = [_prepared_from(name, path, root)]
  else:
    there = sorted(
      path.parent
      for path in root.glob(f'{name}/*/{checks.VERSION}/{feature_set.RECORD}')
    )
  return _only(
    {path: feature_set.read_info(path) for path in there}, ref, root, block
  )


def _only(
  there: dict[pathlib.Path, feature_set.Info],
  ref: Any,
  root: pathlib.Path,
  block: str,
) -> pathlib.Path:
  """The one of the sets whose text encoder is the one that is wanted."""
  if not there:
    others = sorted(str(path) for path in root.glob(f'{ref["name"]}/*/*'))
    there_is = f' (but {others[0]})' if others else ''
    raise FileNotFoundError(
      f'{ref["name"]} is not in {root}: there is no {ref["name"]}/<encoders>/'
      f'{checks.VERSION}/{feature_set.RECORD}{there_is}. Set {block}.source to '
      'the folder of its files and features, to have it prepared there, or '
      f'{block}.dir to the folder of sets prepared before; or '
      f"{block}.name='features' and "
      f'{block}.source to what python -m jaxretrieval.extract has written'
    )
  texts = {path: info.encoders.text for path, info in there.items()}
  wanted = ref['text_encoder']
  fit = [p for p, t in texts.items() if t.lower().startswith(wanted.lower())]
  if len(fit) != 1:
    sets = ', '.join(path.parent.name for path in there)
    raise ValueError(
      f'{block}.text_encoder={wanted!r} fits {len(fit)} of the sets in '
      f'{root / ref["name"]}: {sets}. Set it to the beginning of the text '
      f"encoder's id, or {block}.name='features' and {block}.source to the "
      'folder of one'
    )
  return fit[0]


def _prepared_from(
  name: str, source: pathlib.Path, root: pathlib.Path
) -> pathlib.Path:
  module = MODULES[name]
  if module is flickr8k:
    encoders = flickr8k.encoders(source)
  else:
    encoders = ready_made.encoders(source)
  sums = _sums(source, module.FILES + ready_made.FILES)
  folder = feature_set.folder_of(root, name, encoders)
  if folder.exists():
    there = feature_set.read_info(folder)
    if there.source != sums or there.encoders != encoders:
      differs = sorted(
        path
        for path in sums.keys() | there.source.keys()
        if sums.get(path) != there.source.get(path)
      )
      raise ValueError(
        f'the source {str(source)!r} is not what {folder} was made from '
        f'({", ".join(differs) or "the encoders"} differ): remove that folder, '
        'choose another dir, or leave the source empty'
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
    source=sums,
  )


def _sums(source: pathlib.Path, patterns: tuple[str, ...]) -> dict[str, str]:
  """The sha256 of each file that a set is made from, by its name."""
  paths = {path for pattern in patterns for path in source.glob(pattern)}
  named = {path.relative_to(source).as_posix(): path for path in paths}
  return {
    name: atomic.file_fingerprint(named[name])
    for name in tqdm(sorted(named), f'sha256 of {source.name}', delay=5)
  }
