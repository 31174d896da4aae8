"""Checks of feature sets: splits before writing, records after reading."""

import hashlib
import json
import pathlib
import re
from typing import Any

import numpy as np

from jaxretrieval.feature_sets.captions import Captions, check

# How to recover from a set that is damaged.
REBUILD_HINT = (
  'make it again, from --config.data.source or with python -m '
  'jaxretrieval.extract'
)

# Version of the file format of a set.
VERSION = '1.0.0'


def check_record(path: pathlib.Path, record: Any) -> None:
  """Checks an untrusted `feature_set.json` before it is used.

  Raises:
    ValueError: a size is not a valid size, a file is outside of the folder, or
      the files are too small for the declared number of features.
  """
  check_name('name', record['name'])
  dims = record['image_dim'], record['text_dim']
  splits, files = record['splits'], record['shards']
  sizes = [file['bytes'] for file in files.values()]
  counts = [
    count
    for split in splits.values()
    for count in (split['images'], *split['captions'].values())
  ]
  for number in (*dims, *counts, *sizes):
    if type(number) is not int or not 0 <= number < 2**48:
      raise ValueError(f'{number!r} is not a valid size')
  for name in (*files, *(f'{split}.x' for split in splits)):
    if '/' in name or name.startswith('.'):
      raise ValueError(f'{name!r} is not a file beside {path.name}')
  for split in splits.values():
    features = split['images'] * dims[0]
    features += sum(split['captions'].values()) * dims[1]
    # ArrayRecord compresses zeros to about a thirtieth of their size.
    if 2 * features > max(2**26, 100 * sum(sizes)):
      raise ValueError(
        f'its files of {sum(sizes)} bytes are too small for {features} features'
      )


def check_name(what: str, name: Any) -> None:
  """Raises ValueError if a name cannot be used for files and folders."""
  if not isinstance(name, str) or not re.fullmatch('[a-z][a-z0-9_]*', name):
    raise ValueError(
      f'{what} {name!r} is not allowed: use lower-case letters, digits and _, '
      'starting with a letter'
    )


def validate_split(
  key: str, captions: Captions, images: np.ndarray, texts: np.ndarray
) -> tuple[Captions, np.ndarray, np.ndarray]:
  """Returns a checked split in float16, with captions ordered by image.

  Raises:
    ValueError: see `feature_set.write`.
  """
  check_name('split', key)
  if not len(captions.image_ids):
    raise ValueError(f'{key} has no images')
  try:
    check(captions)
  except ValueError as error:
    raise ValueError(f'{key}: {error}') from error
  for field, array, rows in (
    ('images', images, len(captions.image_ids)),
    ('texts', texts, len(captions.texts)),
  ):
    if array.ndim != 2 or len(array) != rows or not array.shape[1]:
      raise ValueError(
        f'{key}: {field} has shape {list(array.shape)}; it must be '
        f'[{rows}, D], one row for each '
        f'{"image" if field == "images" else "caption"}'
      )
  images = _to_float16(key, 'image', images, captions.image_names)
  texts = _to_float16(key, 'caption', texts, captions.texts)
  order = np.argsort(captions.image_index, kind='stable')
  if (order == np.arange(len(order))).all():
    return captions, images, texts
  ordered = captions._replace(
    texts=[captions.texts[row] for row in order],
    languages=[captions.languages[row] for row in order],
    image_index=captions.image_index[order],
  )
  return ordered, images, texts[order]


def _to_float16(key: str, what: str, array: np.ndarray, names: list[str]):
  """Converts to float16; raises ValueError if a value does not fit."""
  if not np.issubdtype(array.dtype, np.floating):
    raise ValueError(
      f'{key}: {what} features are {array.dtype}; they must be floating point'
    )
  with np.errstate(over='ignore'):
    half = np.ascontiguousarray(array, np.float16)
  for start in range(0, len(half), 4096):  # to limit the memory of the mask
    bad = np.flatnonzero(~np.isfinite(half[start : start + 4096]).all(1))
    if not bad.size:
      continue
    row = start + int(bad[0])
    values = array[row]
    feature = f'{key}: the feature of {what} {row} ({names[row]!r})'
    if np.isfinite(values).all():
      raise ValueError(
        f'{feature} reaches {np.abs(values).max():g}, but features are stored '
        'in float16, whose maximum is 65504: divide all features of this '
        'encoder by one number'
      )
    raise ValueError(
      f'{feature} is {"NaN" if np.isnan(values).any() else "infinite"} in '
      f'{np.count_nonzero(~np.isfinite(values))} of {len(values)} dimensions: '
      'extract it again or leave it out'
    )
  return half


def describe(
  captions: Captions, images: np.ndarray, texts: np.ndarray
) -> dict[str, Any]:
  """Returns the entry of a checked split in `feature_set.json`."""
  languages = {
    code: captions.languages.count(code)
    for code in sorted(set(captions.languages))
  }
  ids = captions.image_ids.astype('<i8')
  strings = [captions.image_names, captions.texts, captions.languages]
  content = hashlib.sha256(images.astype('<f2', copy=False).data)
  content.update(texts.astype('<f2', copy=False).data)
  content.update(ids.data)
  content.update(captions.image_index.astype('<i4').data)
  content.update(json.dumps(strings).encode())
  return {
    'images': len(images),
    'captions': languages,
    'sha256': content.hexdigest(),
    'image_ids_sha256': hashlib.sha256(np.sort(ids).data).hexdigest(),
    'mean_squared_image_norm': _mean_squared_norm(images),
    'mean_squared_text_norm': _mean_squared_norm(texts),
  }


def _mean_squared_norm(array: np.ndarray) -> float:
  total = 0.0
  for start in range(0, len(array), 4096):
    block = array[start : start + 4096].astype(np.float32)
    total += float(np.einsum('nd,nd->n', block, block).sum(dtype=np.float64))
  return total / len(array)


def check_info(record: dict[str, Any]) -> None:
  """Checks the parts of `feature_set.json` that reading a set relies on.

  Raises:
    ValueError, KeyError, TypeError, AttributeError: the record was not written
      by `feature_set.write`.
  """
  sizes = [record['image_dim'], record['text_dim']]
  for split in record['splits'].values():
    sizes += [split['images'], *split['captions'].values()]
  for shard in record['shards'].values():
    sizes.append(shard['bytes'])
    if not isinstance(shard['sha256'], str):
      raise TypeError('a sha256 is not a string')
  if not all(type(size) is int and size > 0 for size in sizes):
    raise ValueError(f'all sizes must be integers above 0: {sizes}')
  for split in record['splits']:
    prefix = f'{record["name"]}-{split}.'
    if not any(name.startswith(prefix) for name in record['shards']):
      raise ValueError(f'no file contains the split {split!r}')
