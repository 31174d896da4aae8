"""Caption files: the captions of a known data set, or of a caption file.

A caption file has one row per caption, in jsonl, csv or tsv:

  {"image": "a/1.jpg", "language": "en", "caption": "A dog runs."}

csv and tsv files start with a header of these names. A column `split` is
optional.
"""

import csv
import hashlib
import io
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from jaxmix.files import atomic, untrusted
from jaxretrieval.feature_sets import captions
from jaxretrieval.feature_sets.locate import MODULES

# Arrays are features already.
DATASETS = tuple(name for name in MODULES if name != 'arrays')
COLUMNS = ('image', 'language', 'caption')


class CaptionSet(NamedTuple):
  """Captions by split, and their origin; see `feature_set.FeatureSetInfo`."""

  splits: dict[str, captions.Captions]
  namespace: str
  licence: str
  source: dict[str, str]


def from_dataset(name: str, source: str | os.PathLike[str]) -> CaptionSet:
  """Reads the captions of a data set from the files of its publisher.

  Raises:
    FileNotFoundError, ValueError: see `read` of the data set's module.
  """
  module = MODULES[name]
  folder = pathlib.Path(source).expanduser()
  paths = {path for pattern in module.FILES for path in folder.glob(pattern)}
  hashes = {
    path.relative_to(folder).as_posix(): atomic.file_fingerprint(path)
    for path in sorted(paths)
  }
  return CaptionSet(
    module.read(folder),
    module.NAMESPACE,
    module.LICENCE,
    dict(sorted(hashes.items())),
  )


def from_file(
  path: str | os.PathLike[str], *, namespace: str, licence: str, split: str
) -> CaptionSet:
  """Reads a caption file; for arguments and errors see `read`."""
  path = pathlib.Path(path).expanduser()
  splits = read(path, namespace=namespace, split=split)
  source = {path.name: atomic.file_fingerprint(path)}
  return CaptionSet(splits, namespace, licence, source)


def select_split(captions: CaptionSet, split: str) -> CaptionSet:
  """Returns a caption set with one of its splits.

  Raises:
    ValueError: the split is missing.
  """
  if split not in captions.splits:
    raise ValueError(
      f'split={split!r} must be one of {", ".join(captions.splits)}'
    )
  return captions._replace(splits={split: captions.splits[split]})


def read(
  path: str | os.PathLike[str], *, namespace: str, split: str
) -> dict[str, captions.Captions]:
  """Reads a caption file.

  Args:
    path: a .jsonl, .csv or .tsv file in UTF-8.
    namespace: namespace of the image ids. Ids of 'coco' and 'flickr' are parsed
      from file names by `captions.coco_id` and `captions.flickr_id`; those of
      any other namespace are hashes of the file names.
    split: split of rows without a value in column `split`.

  Returns:
    The captions of each split; images in the order in which they appear.

  Raises:
    FileNotFoundError: `path` is missing.
    ValueError: the file has another format, a column or value is missing (the
      message names the line), or see `captions.check`.
  """
  path = pathlib.Path(path).expanduser()
  image_id = id_function(namespace)
  images: dict[str, dict[str, int]] = {}
  rows: dict[str, list[tuple[int, str, str]]] = {}
  for line, row in _rows(path):
    for column in COLUMNS:
      value = row.get(column)
      if not isinstance(value, str) or not value.strip():
        raise ValueError(
          f'{path}, line {line}: {column}={value!r} must be a text; each row '
          f'needs {", ".join(COLUMNS)}'
        )
    image, language, caption = (row[column].strip() for column in COLUMNS)
    key = row.get('split') or split
    known = images.setdefault(key, {})
    index = known.setdefault(image, len(known))
    rows.setdefault(key, []).append((index, language, caption))
  if not images:
    raise ValueError(f'{path} has no captions')
  return {
    key: captions.build([image_id(name) for name in names], names, rows[key])
    for key, names in images.items()
  }


def id_function(namespace: str) -> Callable[[str], int]:
  """Returns the function from file names to ids of a namespace, see `read`."""
  known = {'coco': captions.coco_id, 'flickr': captions.flickr_id}
  return known.get(namespace, name_id)


def name_id(name: str) -> int:
  """Returns 63 bits of the BLAKE2b hash of a file name.

  >>> name_id('a/1.jpg') == name_id('a/1.jpg') != name_id('a/2.jpg')
  True
  """
  digest = hashlib.blake2b(
    name.encode(errors='surrogateescape'), digest_size=8
  ).digest()
  return int.from_bytes(digest, 'little') >> 1


def _rows(path: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
  """Yields each row with the number of its last line."""
  if not path.is_file():
    raise FileNotFoundError(f'caption file {path} is missing')
  try:
    text = path.read_bytes().decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is not UTF-8: {error}') from error
  lines = io.StringIO(text, newline='')
  if path.suffix == '.jsonl':
    for number, line in enumerate(lines, 1):
      if line.strip():
        yield number, _object(path, number, line)
  elif path.suffix in ('.csv', '.tsv'):
    reader = csv.DictReader(
      lines,
      delimiter='\t' if path.suffix == '.tsv' else ',',
      # In a tsv file, quotes are part of the caption.
      quoting=csv.QUOTE_NONE if path.suffix == '.tsv' else csv.QUOTE_MINIMAL,
    )
    missing = set(COLUMNS) - set(reader.fieldnames or ())
    if missing:
      raise ValueError(
        f'{path}: the first line must name the columns, but '
        f'{", ".join(sorted(missing))} is missing in {reader.fieldnames}'
      )
    for row in reader:
      yield reader.line_num, row
  else:
    raise ValueError(f'{path} must be a .jsonl, .csv or .tsv file')


def _object(path: pathlib.Path, number: int, line: str) -> dict[str, str]:
  try:
    row = untrusted.parse_json(line)
  except ValueError as error:
    raise ValueError(f'{path}, line {number}: not JSON ({error})') from error
  if not isinstance(row, dict):
    raise ValueError(
      f'{path}, line {number}: {line.strip()!r} must be a JSON object'
    )
  return row
