"""What a split must be to be stored, and what is said of it then."""

import hashlib
import json
import pathlib
import re
from typing import Any

import numpy as np

from jaxretrieval.feature_sets.captions import Captions, check

# What to do about a set that is not as it was written.
AGAIN = (
  'make it again, from --config.data.source or with python -m '
  'jaxretrieval.extract'
)

# Of the layout of a stored set.
VERSION = '1.0.0'


def check_record(path: pathlib.Path, record: Any) -> None:
  """Checks what `feature_set.json` says before anything is made of it.

  Raises:
    ValueError: sizes that are no sizes, files outside of the folder, or more
      features than the files could hold.
  """
  check_name('name', record['name'])
  dims = record['image_dim'], record['text_dim']
  about, files = record['splits'], record['shards']
  sizes = [file['bytes'] for file in files.values()]
  counts = [
    count
    for split in about.values()
    for count in (split['images'], *split['captions'].values())
  ]
  for number in (*dims, *counts, *sizes):
    if type(number) is not int or not 0 <= number < 2**48:
      raise ValueError(f'{number!r} is no size')
  for name in (*files, *(f'{split}.x' for split in about)):
    if '/' in name or name.startswith('.'):
      raise ValueError(f'{name!r} is no file beside {path.name}')
  for split in about.values():
    features = split['images'] * dims[0]
    features += sum(split['captions'].values()) * dims[1]
    # ArrayRecord compresses; zeros, thirtyfold.
    if 2 * features > max(2**26, 100 * sum(sizes)):
      raise ValueError(f'{features} features are more than its files hold')


def check_name(what: str, name: Any) -> None:
  """Raises ValueError for a name that is not fit for files and folders."""
  if not isinstance(name, str) or not re.fullmatch('[a-z][a-z0-9_]*', name):
    raise ValueError(
      f'{what} {name!r}: use lower-case letters, digits and _, a letter first'
    )


def stored(
  key: str, captions: Captions, images: np.ndarray, texts: np.ndarray
) -> tuple[Captions, np.ndarray, np.ndarray]:
  """Checks the split `key`; gives it in float16, captions ordered by image.

  Raises:
    ValueError: see `features.write`.
  """
  check_name('split', key)
  if not len(captions.image_ids):
    raise ValueError(f'{key}: there are no images')
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
        f'{key}: {field} has shape {list(array.shape)}, expected '
        f'[{rows}, D]: a row for each of its '
        f'{"images" if field == "images" else "captions"}'
      )
  images = _half(key, 'image', images, captions.image_names)
  texts = _half(key, 'caption', texts, captions.texts)
  order = np.argsort(captions.image_index, kind='stable')
  if (order == np.arange(len(order))).all():
    return captions, images, texts
  ordered = captions._replace(
    texts=[captions.texts[row] for row in order],
    languages=[captions.languages[row] for row in order],
    image_index=captions.image_index[order],
  )
  return ordered, images, texts[order]


def _half(key: str, what: str, array: np.ndarray, names: list[str]):
  """`array` in float16; refuses what that cannot hold, and names it."""
  if not np.issubdtype(array.dtype, np.floating):
    raise ValueError(f'{key}: {what} features are {array.dtype}, not floating')
  with np.errstate(over='ignore'):
    half = np.ascontiguousarray(array, np.float16)
  for start in range(0, len(half), 4096):  # little memory beside the array
    bad = np.flatnonzero(~np.isfinite(half[start : start + 4096]).all(1))
    if not bad.size:
      continue
    row = start + int(bad[0])
    given = array[row]
    where = f'{key}: feature of {what} {row} ({names[row]!r})'
    if np.isfinite(given).all():
      raise ValueError(
        f'{where} reaches {np.abs(given).max():g}; float16, in which features '
        'are stored, ends at 65504. Divide all features of this encoder by one '
        'number'
      )
    raise ValueError(
      f'{where} is {"NaN" if np.isnan(given).any() else "infinite"} in '
      f'{np.count_nonzero(~np.isfinite(given))} of {len(given)} places: '
      'extract it again or leave it out'
    )
  return half


def describe(
  captions: Captions, images: np.ndarray, texts: np.ndarray
) -> dict[str, Any]:
  """What `feature_set.json` says of a split that `stored` has checked."""
  languages = {
    code: captions.languages.count(code)
    for code in sorted(set(captions.languages))
  }
  ids = captions.image_ids.astype('<i8')
  strings = [captions.image_names, captions.texts, captions.languages]
  whole = hashlib.sha256(images.astype('<f2', copy=False).data)
  whole.update(texts.astype('<f2', copy=False).data)
  whole.update(ids.data)
  whole.update(captions.image_index.astype('<i4').data)
  whole.update(json.dumps(strings).encode())
  return {
    'images': len(images),
    'captions': languages,
    'sha256': whole.hexdigest(),
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
    ValueError, KeyError, TypeError, AttributeError: it was not written by
      `features.write`.
  """
  sizes = [record['image_dim'], record['text_dim']]
  for about in record['splits'].values():
    sizes += [about['images'], *about['captions'].values()]
  for about in record['shards'].values():
    sizes.append(about['bytes'])
    if not isinstance(about['sha256'], str):
      raise TypeError('a sha256 is no string')
  if not all(type(size) is int and size > 0 for size in sizes):
    raise ValueError(f'a size is no whole number above 0: {sizes}')
  for split in record['splits']:
    begin = f'{record["name"]}-{split}.'
    if not any(name.startswith(begin) for name in record['shards']):
      raise ValueError(f'no file holds {split!r}')
