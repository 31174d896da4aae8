"""COCO captions of 2014, five English ones an image, from the JSON files.

Mind which images a split is: 'train' is train2014, 82,783 images, 800 of which
are in XTD10; 'val' is val2014 (40,504), or with Karpathy's file 5,000 of it.
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
    source: the folder of the files, or the one around `annotations`.

  Returns:
    The publisher's: 'train' and 'val', or the one that is there. Karpathy's:
    'train' (82,783), 'val' (5,000), 'test' (5,000) and 'restval' (30,504).

  Raises:
    FileNotFoundError: none of these is there.
    ValueError: a file is not of that form.
  """
  folder = pathlib.Path(source).expanduser()
  if path := _find(folder, KARPATHY):
    return _karpathy(path)
  found = {
    split: path
    for split, name in PUBLISHED.items()
    if (path := _find(folder, name))
  }
  if not found:
    raise FileNotFoundError(
      f'{folder} has none of {KARPATHY}, {", ".join(PUBLISHED.values())}: set '
      'config.data.source to the folder of them (annotations_trainval2014.zip '
      'of cocodataset.org)'
    )
  return {split: _published(path) for split, path in found.items()}


def _find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  places = (folder / place / name for place in _FOLDERS)
  return next((path for path in places if path.is_file()), None)


def _published(path: pathlib.Path) -> captions.Captions:
  content = _json(path)
  try:
    names = {image['id']: image['file_name'] for image in content['images']}
    said = [
      (note['image_id'], note['caption']) for note in content['annotations']
    ]
    rows = {image: row for row, image in enumerate(names)}
    for image, name in names.items():
      if captions.coco_id(name) != image:
        raise ValueError(f'image {image} has the file name {name!r}')
    unknown = [image for image, _ in said if image not in rows]
    if unknown:
      raise ValueError(f'a caption is about image {unknown[0]}, not in images')
    numbered = [(rows[image], text) for image, text in said]
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
      said = [sentence['raw'] for sentence in image['sentences']]
      splits.setdefault(image['split'], []).append((image['filename'], said))
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
      [(row, text) for row, (_, said) in enumerate(images) for text in said],
    )
    for split, images in splits.items()
  }


def _build(
  path: pathlib.Path,
  ids: list[int],
  names: Iterable[str],
  said: list[tuple[int, str]],
) -> captions.Captions:
  try:
    rows = [(row, 'en', ' '.join(text.split())) for row, text in said]
    return captions.build(ids, names, rows)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from error


def _json(path: pathlib.Path) -> Any:
  try:
    return untrusted.read_json(path, untrusted.MAX_CAPTIONS)
  except ValueError as error:
    raise ValueError(f'{path} is not JSON: {error}') from error
