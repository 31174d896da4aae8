"""Captions of the images of one split, without any features."""

import hashlib
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

# Not str.splitlines: that also cuts at the line separators of Unicode, which
# may stand within a caption.
_NEWLINE = re.compile(r'\r\n|\n|\r')
_LANGUAGE = re.compile(r'[a-z]{2,3}(-[A-Za-z0-9]+)*')
_COCO = re.compile(r'COCO_(?:train|val|test)\d{4}_(\d{12})\b')
_FLICKR = re.compile(r'(\d+)(?:_[0-9a-f]+)?(?:\.|#|$)')


class Captions(NamedTuple):
  """Who says what about which image; N images, M captions.

  Attributes:
    image_ids: int64 [N], unique. The number of an image in its namespace, so
      that two sets can be compared: see `coco_id` and `flickr_id`.
    image_names: [N] file names.
    texts: [M] captions.
    languages: [M] ISO 639-1 codes, e.g. 'en', 'de', 'ja', 'zh'.
    image_index: int32 [M], the row of the image that a caption is about.
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
  """Makes `Captions` of rows `(image row, language, text)`, and checks them.

  Rows are ordered by image; those of one image keep their order.

  Raises:
    ValueError: as `check`.

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
  """Raises ValueError where captions and images do not fit together.

  Raises:
    ValueError: naming the row: arrays of other dtypes or lengths, two images
      of one id, an image without a caption, a caption about an image that is
      not there, an empty caption, a language that is not a code.
  """
  images, texts = len(captions.image_ids), len(captions.texts)
  for field, dtype in (('image_ids', np.int64), ('image_index', np.int32)):
    array = getattr(captions, field)
    if array.dtype != dtype or array.ndim != 1:
      raise ValueError(
        f'{field} is {array.dtype} {list(array.shape)}, expected '
        f'{np.dtype(dtype)} of one axis'
      )
  for field, length in (
    ('image_names', images),
    ('languages', texts),
    ('image_index', texts),
  ):
    if len(getattr(captions, field)) != length:
      of = 'images' if field == 'image_names' else 'captions'
      raise ValueError(
        f'{field} has {len(getattr(captions, field))} rows for {length} {of}'
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
      f'caption {row} ({captions.texts[row]!r}) is about image '
      f'{index[row]}, but there are {images} images'
    )
  silent = np.flatnonzero(np.bincount(index, minlength=images) == 0)
  if silent.size:
    raise ValueError(
      f'image {silent[0]} ({captions.image_names[silent[0]]}) has no caption'
      + (f', nor have {silent.size - 1} others' if silent.size > 1 else '')
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
        f'{language!r}, expected an ISO 639 code, e.g. en'
      )


def check_languages(
  languages: Sequence[str] | None, known: Mapping[str, int], where: str
) -> set[str]:
  """The languages asked for (None or none at all: every one that is there).

  Raises:
    ValueError: one that is not there; lists those that are.
  """
  if isinstance(languages, str):
    raise ValueError(
      f'languages={languages!r}: give a list, e.g. [{languages!r}]'
    )
  missing = [code for code in languages or () if code not in known]
  if missing:
    raise ValueError(
      f'language {missing[0]!r} is not in {where}, which has '
      + ', '.join(sorted(known))
    )
  return set(languages or known)


def coco_id(name: str) -> int:
  """The number in a COCO file name, the same in all its years and splits.

  Raises:
    ValueError: it is not such a name.

  >>> coco_id('COCO_val2014_000000391895.jpg')
  391895
  """
  found = _COCO.search(name) or re.search(r'(?:^|/)(\d{12})(?=\.|$)', name)
  if not found:
    raise ValueError(
      f'{name!r} is not a COCO file name, e.g. COCO_val2014_000000391895.jpg'
    )
  return int(found[1])


def flickr_id(name: str) -> int:
  """Flickr's own number of a photograph in Flickr8k, Flickr30k and Multi30K.

  Raises:
    ValueError: it is not such a name.

  >>> flickr_id('1000268201_693b08cb0e.jpg'), flickr_id('1000268201.jpg')
  (1000268201, 1000268201)
  """
  found = _FLICKR.match(name.rpartition('/')[2])
  if not found:
    raise ValueError(
      f'{name!r} is not a Flickr file name, e.g. 1000268201_693b08cb0e.jpg'
    )
  return int(found[1])


def normalise(text: str) -> str:
  r"""The form in which two captions are compared: NFKC, case and spaces folded.

  >>> normalise('A  DOG\u3000runs ')
  'a dog runs'
  """
  return ' '.join(unicodedata.normalize('NFKC', text).casefold().split())


def hashes(texts: Iterable[str]) -> np.ndarray:
  """A number for each caption, int64 [M]; equal captions have equal numbers.

  They are 64 bits of BLAKE2b over the normalised text: the same everywhere, and
  two of 10^7 different captions meet with probability 3e-6.

  >>> a, b, c = hashes(['A dog.', 'a  dog.', 'a cat.'])
  >>> bool(a == b), bool(a == c)
  (True, False)
  """
  digest = b''.join(
    hashlib.blake2b(normalise(text).encode(), digest_size=8).digest()
    for text in texts
  )
  return np.frombuffer(digest, '<i8').astype(np.int64)


def read_lines(path: pathlib.Path) -> list[str]:
  """The lines of a text file, see `split_lines`.

  Raises:
    FileNotFoundError: it is not there.
    ValueError: it is not UTF-8.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path} is missing')
  return split_lines(path, path.read_bytes())


def split_lines(path: pathlib.Path, content: bytes) -> list[str]:
  """Lines, whether they end in LF, CRLF or CR, the last perhaps in nothing.

  Raises:
    ValueError: `content` is not UTF-8; names `path`.
  """
  try:
    text = content.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is not UTF-8: {error}') from error
  lines = _NEWLINE.split(text)
  return lines[:-1] if lines[-1] == '' else lines
