"""Captions of the images of one split, their ids, and their text files."""

import hashlib
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

# str.splitlines would also split at Unicode line separators, which may occur
# within a caption.
_NEWLINE = re.compile(r'\r\n|\n|\r')
_LANGUAGE = re.compile(r'[a-z]{2,3}(-[A-Za-z0-9]+)*')
_COCO = re.compile(r'COCO_(?:train|val|test)\d{4}_(\d{12})\b')
_FLICKR = re.compile(r'(\d+)(?:_[0-9a-f]+)?(?:\.|#|$)')


class Captions(NamedTuple):
  """N images and their M captions.

  Attributes:
    image_ids: int64 [N], unique. Ids are comparable between sets of one
      namespace: see `coco_id` and `flickr_id`.
    image_names: [N] file names.
    texts: [M] captions.
    languages: [M] ISO 639-1 codes, e.g. 'en', 'de', 'ja', 'zh'.
    image_index: int32 [M], the row of the image of each caption.
  """

  image_ids: np.ndarray
  image_names: list[str]
  texts: list[str]
  languages: list[str]
  image_index: np.ndarray


def build(
  image_ids: Sequence[int] | np.ndarray,
  image_names: Iterable[str],
  rows: Iterable[tuple[int, str, str]],
) -> Captions:
  """Returns checked `Captions` of triples `(image row, language, text)`.

  Captions are sorted by image; those of one image keep their order.

  Raises:
    ValueError: see `check`.

  >>> captions = build([7, 9], ['7.jpg', '9.jpg'],
  ...                  [(1, 'en', 'a cat'), (0, 'en', 'a dog')])
  >>> captions.texts, captions.image_index.tolist()
  (['a dog', 'a cat'], [0, 1])
  """
  ordered = sorted(rows, key=lambda row: row[0])
  captions = Captions(
    image_ids=np.asarray(image_ids, np.int64),
    image_names=list(image_names),
    texts=[text for _, _, text in ordered],
    languages=[language for _, language, _ in ordered],
    image_index=np.asarray([row for row, _, _ in ordered], np.int32),
  )
  check(captions)
  return captions


def check(captions: Captions) -> None:
  """Checks that captions and images are consistent.

  Raises:
    ValueError: an array has another dtype or length, two images have one id,
      an image has no caption, a caption is empty, belongs to an image that
      does not exist, or has a language that is not an ISO 639 code. The message
      names the row.
  """
  images, texts = len(captions.image_ids), len(captions.texts)
  for field, dtype in (('image_ids', np.int64), ('image_index', np.int32)):
    array = getattr(captions, field)
    if array.dtype != dtype or array.ndim != 1:
      raise ValueError(
        f'{field} is {array.dtype} {list(array.shape)}; it must be a vector of '
        f'{np.dtype(dtype)}'
      )
  for field, length in (
    ('image_names', images),
    ('languages', texts),
    ('image_index', texts),
  ):
    if len(getattr(captions, field)) != length:
      of = 'images' if field == 'image_names' else 'captions'
      raise ValueError(
        f'{field} has {len(getattr(captions, field))} entries for {length} {of}'
      )
  order = np.argsort(captions.image_ids, kind='stable')
  same = np.flatnonzero(np.diff(captions.image_ids[order]) == 0)
  if same.size:
    first, second = order[same[0]], order[same[0] + 1]
    raise ValueError(
      f'images {first} ({captions.image_names[first]}) and {second} '
      f'({captions.image_names[second]}) have the same id '
      f'{captions.image_ids[first]}'
    )
  index = captions.image_index
  outside = np.flatnonzero((index < 0) | (index >= images))
  if outside.size:
    row = outside[0]
    raise ValueError(
      f'caption {row} ({captions.texts[row]!r}) has image_index='
      f'{index[row]}, but there are {images} images'
    )
  missing = np.flatnonzero(np.bincount(index, minlength=images) == 0)
  if missing.size:
    raise ValueError(
      f'image {missing[0]} ({captions.image_names[missing[0]]}) has no caption '
      f'({missing.size} such images)'
    )
  for row, text in enumerate(captions.texts):
    if not text.strip():
      name = captions.image_names[index[row]]
      raise ValueError(
        f'caption {row} ({captions.languages[row]}, of {name}) is empty'
      )
  for language in set(captions.languages):
    if not _LANGUAGE.fullmatch(language):
      raise ValueError(
        f'caption {captions.languages.index(language)} has language '
        f'{language!r}; it must be an ISO 639 code, e.g. en'
      )


def check_languages(
  languages: Sequence[str] | None, known: Mapping[str, int], where: str
) -> set[str]:
  """Returns the requested languages, or all if none are requested.

  Raises:
    ValueError: a language is not in `known`, or `languages` is not a list.
  """
  if isinstance(languages, str):
    raise ValueError(
      f'languages={languages!r} must be a list, e.g. [{languages!r}]'
    )
  missing = [code for code in languages or () if code not in known]
  if missing:
    raise ValueError(
      f'language {missing[0]!r} is not in {where}: choose from '
      + ', '.join(sorted(known))
    )
  return set(languages or known)


def coco_id(name: str) -> int:
  """Returns the number in a COCO file name, equal in all years and splits.

  Raises:
    ValueError: `name` is not a COCO file name.

  >>> coco_id('COCO_val2014_000000391895.jpg')
  391895
  """
  match = _COCO.search(name) or re.search(r'(?:^|/)(\d{12})(?=\.|$)', name)
  if not match:
    raise ValueError(
      f'{name!r} is not a COCO file name, e.g. COCO_val2014_000000391895.jpg'
    )
  return int(match[1])


def flickr_id(name: str) -> int:
  """Returns Flickr's number in a file name of Flickr8k, Flickr30k or Multi30K.

  Raises:
    ValueError: `name` is not a Flickr file name.

  >>> flickr_id('1000268201_693b08cb0e.jpg'), flickr_id('1000268201.jpg')
  (1000268201, 1000268201)
  """
  match = _FLICKR.match(name.rpartition('/')[2])
  if not match:
    raise ValueError(
      f'{name!r} is not a Flickr file name, e.g. 1000268201_693b08cb0e.jpg'
    )
  return int(match[1])


def normalise(text: str) -> str:
  r"""Returns a caption in NFKC, with case and white space folded.

  >>> normalise('A  DOG\u3000runs ')
  'a dog runs'
  """
  return ' '.join(unicodedata.normalize('NFKC', text).casefold().split())


def hashes(texts: Iterable[str]) -> np.ndarray:
  """Returns a hash of each normalised caption, int64 [M].

  Hashes are 64 bits of BLAKE2b, equal on every machine. The probability of a
  collision among 10^7 different captions is 3e-6.

  >>> a, b, c = hashes(['A dog.', 'a  dog.', 'a cat.'])
  >>> bool(a == b), bool(a == c)
  (True, False)
  """
  digests = b''.join(
    hashlib.blake2b(normalise(text).encode(), digest_size=8).digest()
    for text in texts
  )
  return np.frombuffer(digests, '<i8').astype(np.int64)


def read_lines(path: pathlib.Path) -> list[str]:
  """Returns the lines of a text file, see `split_lines`.

  Raises:
    FileNotFoundError: `path` is missing.
    ValueError: it is not UTF-8.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path} is missing')
  return split_lines(path, path.read_bytes())


def split_lines(path: pathlib.Path, content: bytes) -> list[str]:
  """Splits a text at LF, CRLF and CR; a final line break is optional.

  Raises:
    ValueError: `content`, read from `path`, is not UTF-8.
  """
  try:
    text = content.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is not UTF-8: {error}') from error
  lines = _NEWLINE.split(text)
  return lines[:-1] if lines[-1] == '' else lines
