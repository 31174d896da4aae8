"""Features that somebody has made already, beside the captions of a data set.

* `<split>_image_features.npy` and `<split>_text_features.npy`, rows in the
  order of `image_names` and of `texts` in `read(source)[<split>]`: captions
  by image, not by language. A data set of one split may leave out `<split>_`.
  Or .npz with one array, or with one called `features`.
* `encoders.json`: {"image": ..., "text": ...}, exact, with versions,
  preprocessing and pooling.

Files of pickled objects are refused: reading one runs the code in it.
"""

import os
import pathlib
from typing import Any

import numpy as np

from jaxmix.files import untrusted
from jaxretrieval.feature_sets.captions import Captions
from jaxretrieval.feature_sets.feature_set import Encoders, Split

ABOUT = 'encoders.json'
FILES = (ABOUT, '*image_features.np[yz]', '*text_features.np[yz]')


def encoders(source: str | os.PathLike[str]) -> Encoders:
  """Reads `encoders.json`.

  Raises:
    FileNotFoundError: it is not there; says what to write.
    ValueError: it names no encoders.
  """
  content = about(source)
  return Encoders(content['image'], content['text'])


def about(source: str | os.PathLike[str]) -> dict[str, Any]:
  """All of `encoders.json`: 'image', 'text', and what a data set may add.

  Raises:
    FileNotFoundError, ValueError: as `encoders`.
  """
  path = pathlib.Path(source).expanduser() / ABOUT
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing. It says what made the features, so that others are '
      'not mixed with them: {"image": "resnet152 torchvision 0.21 V1, resize '
      '256, crop 224, average pool", "text": "LaBSE, ..."}'
    )
  try:
    content = untrusted.read_json(path)
    if all(isinstance(content[key], str) for key in Encoders._fields):
      return content
  except (ValueError, KeyError, TypeError):
    pass
  raise ValueError(f'{path} has no strings "image" and "text"')


def aligned(
  source: str | os.PathLike[str], captions: dict[str, Captions]
) -> dict[str, Split]:
  """Puts the features of a folder to the captions of a data set.

  Raises:
    FileNotFoundError: features of a split are missing.
    ValueError: another number of rows than images or captions.
  """
  folder = pathlib.Path(source).expanduser()
  splits = {}
  for split, said in captions.items():
    arrays = []
    for what, rows in (
      ('image', len(said.image_ids)),
      ('text', len(said.texts)),
    ):
      path = _find(folder, split, f'{what}_features', len(captions) == 1)
      array = load(path)
      if len(array) != rows:
        raise ValueError(
          f'{path} has {len(array)} rows, {split} has {rows} '
          f'{"images" if what == "image" else "captions"}'
        )
      arrays.append(array)
    splits[split] = Split(said, *arrays)
  return splits


def _find(folder: pathlib.Path, split: str, stem: str, only: bool):
  stems = [f'{split}_{stem}', stem] if only else [f'{split}_{stem}']
  for name in stems:
    for end in ('.npy', '.npz'):
      if (folder / (name + end)).is_file():
        return folder / (name + end)
  raise FileNotFoundError(
    f'{folder / stems[0]}.npy (or .npz) is missing: features are read from '
    'config.data.source, or made by python -m jaxretrieval.extract'
  )


def load(path: pathlib.Path, key: str | None = None) -> np.ndarray:
  """Reads an array of a .npy or .npz file; never a pickled object.

  Args:
    path: of the file; .npy files are mapped, not read.
    key: of the array in a .npz; None for `features`, or the only one.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: it is broken, has no such array, or holds pickled objects.
  """
  if path.suffix == '.npy':
    return untrusted.load_array(path, mapped=True)
  there = untrusted.array_names(path)
  if key is None:
    key = there[0] if len(there) == 1 else 'features'
  if key not in there:
    raise ValueError(f'{path} has the arrays {there}, no {key!r}')
  return untrusted.load_arrays(path, [key])[key]


def names(path: pathlib.Path) -> set[str]:
  """The names of the arrays of a .npz file.

  Raises:
    ValueError: it is not one.
  """
  return set(untrusted.array_names(path))
