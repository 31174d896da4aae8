"""Precomputed features in the folder of a data set's captions.

* `<split>_image_features.npy` and `<split>_text_features.npy`, with rows in the
  order of `image_names` and `texts` in `read(source)[<split>]`: captions are
  sorted by image, not by language. The prefix `<split>_` is optional for a data
  set of one split. Also .npz files with one array, or one called `features`.
* `encoders.json`: {"image": ..., "text": ...}, the exact ids of the encoders
  with versions, preprocessing and pooling.

Files of pickled objects are refused, because reading them can run code.
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
  """Returns the ids in `encoders.json`.

  Raises:
    FileNotFoundError: the file is missing.
    ValueError: it does not name the encoders.
  """
  content = about(source)
  return Encoders(content['image'], content['text'])


def about(source: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns `encoders.json` with 'image', 'text', and optional fields.

  Raises:
    FileNotFoundError, ValueError: see `encoders`.
  """
  path = pathlib.Path(source).expanduser() / ABOUT
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing: write a file that names the encoders of the '
      'features, such as {"image": "resnet152 torchvision 0.21 V1, resize 256, '
      'crop 224, average pool", "text": "LaBSE, ..."}'
    )
  try:
    content = untrusted.read_json(path)
    if all(isinstance(content[key], str) for key in Encoders._fields):
      return content
  except (ValueError, KeyError, TypeError):
    pass
  raise ValueError(f'{path} must have the strings "image" and "text"')


def aligned(
  source: str | os.PathLike[str], captions: dict[str, Captions]
) -> dict[str, Split]:
  """Returns the captions of a data set with the features of a folder.

  Raises:
    FileNotFoundError: features of a split are missing.
    ValueError: the number of rows differs from that of images or captions.
  """
  folder = pathlib.Path(source).expanduser()
  splits = {}
  for split, of_split in captions.items():
    arrays = []
    for what, rows in (
      ('image', len(of_split.image_ids)),
      ('text', len(of_split.texts)),
    ):
      path = _find(folder, split, f'{what}_features', len(captions) == 1)
      array = load(path)
      if len(array) != rows:
        raise ValueError(
          f'{path} has {len(array)} rows, but {split} has {rows} '
          f'{"images" if what == "image" else "captions"}'
        )
      arrays.append(array)
    splits[split] = Split(of_split, *arrays)
  return splits


def _find(folder: pathlib.Path, split: str, stem: str, only: bool):
  stems = [f'{split}_{stem}', stem] if only else [f'{split}_{stem}']
  for name in stems:
    for suffix in ('.npy', '.npz'):
      if (folder / (name + suffix)).is_file():
        return folder / (name + suffix)
  raise FileNotFoundError(
    f'{folder / stems[0]}.npy (or .npz) is missing: set config.data.source to '
    'the folder of the features, or make them with python -m '
    'jaxretrieval.extract'
  )


def load(path: pathlib.Path, key: str | None = None) -> np.ndarray:
  """Reads an array of a .npy or .npz file; never a pickled object.

  Args:
    path: path of the file; .npy files are memory-mapped.
    key: name of the array in a .npz file; None for `features`, or the only one.

  Raises:
    FileNotFoundError: the file is missing.
    ValueError: it is damaged, lacks the array, or holds pickled objects.
  """
  if path.suffix == '.npy':
    return untrusted.load_array(path, mapped=True)
  existing = untrusted.array_names(path)
  if key is None:
    key = existing[0] if len(existing) == 1 else 'features'
  if key not in existing:
    raise ValueError(f'{path} has the arrays {existing}, but not {key!r}')
  return untrusted.load_arrays(path, [key])[key]


def names(path: pathlib.Path) -> set[str]:
  """Returns the names of the arrays in a .npz file.

  Raises:
    ValueError: it is not a .npz file.
  """
  return set(untrusted.array_names(path))
