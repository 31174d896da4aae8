"""Captions to encode: of a known data set, or of a plain file.

A plain file has a row for each caption, in jsonl, csv or tsv:

  {"image": "a/1.jpg", "language": "en", "caption": "A dog runs."}

csv and tsv have these names as their first line. A column `split` is optional.
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

DATASETS = ('flickr8k', 'multi30k', 'coco_captions', 'xtd10')
COLUMNS = ('image', 'language', 'caption')


class Said(NamedTuple):
  """Captions by split, and where they come from; see `features.Info`."""

  captions: dict[str, captions.Captions]
  namespace: str
  licence: str
  source: dict[str, str]


def dataset(name: str, source: str | os.PathLike[str]) -> Said:
  """Reads the captions of a data set from its publisher's files.

  Raises:
    FileNotFoundError, ValueError: as its `read`.
  """
  module = MODULES[name]
  folder = pathlib.Path(source).expanduser()
  paths = {path for pattern in module.FILES for path in folder.glob(pattern)}
  sums = {
    path.relative_to(folder).as_posix(): atomic.file_fingerprint(path)
    for path in sorted(paths)
  }
  return Said(
    module.read(folder),
    module.NAMESPACE,
    module.LICENCE,
    dict(sorted(sums.items())),
  )


def plain(
  path: str | os.PathLike[str], *, namespace: str, licence: str, split: str
) -> Said:
  """Reads a plain file; arguments and errors as those of `read`."""
  path = pathlib.Path(path).expanduser()
  found = read(path, namespace=namespace, split=split)
  return Said(
    found, namespace, licence, {path.name: atomic.file_fingerprint(path)}
  )


def only(said: Said, split: str) -> Said:
  """Keeps one split.

  Raises:
    ValueError: it is not there.
  """
  if split not in said.captions:
    raise ValueError(f'split={split!r}: there are {", ".join(said.captions)}')
  return said._replace(captions={split: said.captions[split]})


def read(
  path: str | os.PathLike[str], *, namespace: str, split: str
) -> dict[str, captions.Captions]:
  """Reads a plain caption file.

  Args:
    path: of the .jsonl, .csv or .tsv file, in UTF-8.
    namespace: 'coco' and 'flickr' take the id of an image from its file name,
      as `captions.coco_id` and `flickr_id` do; any other from a hash of the
      name, so that equal names have equal ids in all sets of that namespace.
    split: of rows that do not say.

  Returns:
    The captions of each split; images in the order in which they appear.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: another kind of file, a missing column or value (names the
      line), or as `captions.check`.
  """
  path = pathlib.Path(path).expanduser()
  number = numbering(namespace)
  images: dict[str, dict[str, int]] = {}
  said: dict[str, list[tuple[int, str, str]]] = {}
  for line, row in _rows(path):
    for column in COLUMNS:
      value = row.get(column)
      if not isinstance(value, str) or not value.strip():
        raise ValueError(
          f'{path}, line {line}: {column}={value!r}; each row needs '
          f'{", ".join(COLUMNS)}'
        )
    image, language, caption = (row[column].strip() for column in COLUMNS)
    where = row.get('split') or split
    known = images.setdefault(where, {})
    index = known.setdefault(image, len(known))
    said.setdefault(where, []).append((index, language, caption))
  if not images:
    raise ValueError(f'{path} has no captions')
  return {
    where: captions.build([number(name) for name in names], names, said[where])
    for where, names in images.items()
  }


def numbering(namespace: str) -> Callable[[str], int]:
  """How the ids of a namespace follow from file names; see `read`."""
  known = {'coco': captions.coco_id, 'flickr': captions.flickr_id}
  return known.get(namespace, name_id)


def name_id(name: str) -> int:
  """A number for a file name: 63 bits of its BLAKE2b hash.

  >>> name_id('a/1.jpg') == name_id('a/1.jpg') != name_id('a/2.jpg')
  True
  """
  digest = hashlib.blake2b(
    name.encode(errors='surrogateescape'), digest_size=8
  ).digest()
  return int.from_bytes(digest, 'little') >> 1


def _rows(path: pathlib.Path) -> Iterator[tuple[int, dict[str, str]]]:
  """Each row with the line it ends on."""
  if not path.is_file():
    raise FileNotFoundError(f'{path}: no such caption file')
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
      # Quotes in a tsv file are the caption's own.
      quoting=csv.QUOTE_NONE if path.suffix == '.tsv' else csv.QUOTE_MINIMAL,
    )
    missing = set(COLUMNS) - set(reader.fieldnames or ())
    if missing:
      raise ValueError(
        f'{path}: the first line must name the columns; {sorted(missing)} '
        f'missing among {reader.fieldnames}'
      )
    for row in reader:
      yield reader.line_num, row
  else:
    raise ValueError(f'{path}: captions come as .jsonl, .csv or .tsv')


def _object(path: pathlib.Path, number: int, line: str) -> dict[str, str]:
  try:
    row = untrusted.parse_json(line)
  except ValueError as error:
    raise ValueError(f'{path}, line {number}: not JSON ({error})') from error
  if not isinstance(row, dict):
    raise ValueError(f'{path}, line {number}: {line.strip()!r} is no object')
  return row
