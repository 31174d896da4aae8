"""COCO captions of 2014: five English captions per image, from JSON files.

Split 'train' is train2014 with 82,783 images, 800 of which are in XTD10. Split
'val' is val2014 (40,504 images), or 5,000 of them with Karpathy's file.
"""

import os
import pathlib
from collections.abc import Iterable
from typing import Any

from jaxmix.files import untrusted
from jaxretrieval.feature_sets import captions

NAMESPACE = 'coco'
LICENCE = 'COCO captions: CC BY 4.0; images: terms of Flickr'
KARPATHY = 'dataset_coco.json'
PUBLISHED = {
  'train': 'captions_train2014.json',
  'val': 'captions_val2014.json',
}
_FOLDERS = ('', 'annotations')
FILES = tuple(
  f'{folder}/{name}'.lstrip('/')
  for folder in _FOLDERS
  for name in (KARPATHY, *PUBLISHED.values())
)


def read(source: str | os.PathLike[str]) -> dict[str, captions.Captions]:
  """Reads Karpathy's `dataset_coco.json`, else the publisher's files.

  Args:
    source: the folder of the files, or its parent if that is `annotations`.

  Returns:
    From the publisher's files 'train' and 'val', or the one that exists. From
    Karpathy's file 'train' (82,783), 'val' (5,000), 'test' (5,000) and
    'restval' (30,504).

  Raises:
    FileNotFoundError: none of the files exists.
    ValueError: a file has another format.
  """
  folder = pathlib.Path(source).expanduser()
  if path := _find(folder, KARPATHY):
    return _karpathy(path)
  paths = {
    split: path
    for split, name in PUBLISHED.items()
    if (path := _find(folder, name))
  }
  if not paths:
    raise FileNotFoundError(
      f'{folder} has none of {KARPATHY}, {", ".join(PUBLISHED.values())}: set '
      'config.data.source to their folder (annotations_trainval2014.zip of '
      'cocodataset.org)'
    )
  return {split: _published(path) for split, path in paths.items()}


def _find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  paths = (folder / parent / name for parent in _FOLDERS)
  return next((path for path in paths if path.is_file()), None)


def _published(path: pathlib.Path) -> captions.Captions:
  content = _json(path)
  try:
    names = {image['id']: image['file_name'] for image in content['images']}
    annotations = [
      (annotation['image_id'], annotation['caption'])
      for annotation in content['annotations']
    ]
    rows = {image: row for row, image in enumerate(names)}
    for image, name in names.items():
      if captions.coco_id(name) != image:
        raise ValueError(f'image {image} has the file name {name!r}')
    unknown = [image for image, _ in annotations if image not in rows]
    if unknown:
      raise ValueError(f'a caption has image_id={unknown[0]}, not in images')
    numbered = [(rows[image], text) for image, text in annotations]
  except (KeyError, TypeError, AttributeError) as error:
    raise ValueError(f'{path} is not a COCO caption file: {error!r}') from error
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return _build(path, list(names), names.values(), numbered)


def _karpathy(path: pathlib.Path) -> dict[str, captions.Captions]:
  content = _json(path)
  try:
    splits: dict[str, list[Any]] = {}
    for image in content['images']:
      texts = [sentence['raw'] for sentence in image['sentences']]
      splits.setdefault(image['split'], []).append((image['filename'], texts))
    ids = {
      split: [captions.coco_id(name) for name, _ in images]
      for split, images in splits.items()
    }
  except (KeyError, TypeError, AttributeError) as error:
    raise ValueError(f'{path} is not a Karpathy file: {error!r}') from error
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error
  return {
    split: _build(
      path,
      ids[split],
      [name for name, _ in images],
      [(row, text) for row, (_, texts) in enumerate(images) for text in texts],
    )
    for split, images in splits.items()
  }


def _build(
  path: pathlib.Path,
  ids: list[int],
  names: Iterable[str],
  numbered: list[tuple[int, str]],
) -> captions.Captions:
  try:
    rows = [(row, 'en', ' '.join(text.split())) for row, text in numbered]
    return captions.build(ids, names, rows)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _json(path: pathlib.Path) -> Any:
  try:
    return untrusted.read_json(path, untrusted.MAX_CAPTIONS)
  except ValueError as error:
    raise ValueError(f'{path} is not JSON: {error}') from error
