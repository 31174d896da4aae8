"""Multi30K, task 1: Flickr30k images with captions in four languages.

One English caption of each image and its translations into German, French and
Czech, from github.com/multi30k/dataset. Its training split contains 871 of the
test images of Flickr8k.
"""

import os
import pathlib

from jaxmix.files import untrusted
from jaxretrieval.feature_sets import captions

NAMESPACE = 'flickr'
LICENCE = (
  'Multi30K: no licence file; images under the terms of Flickr, '
  'non-commercial research and education only'
)
SPLITS = {'train': 'train', 'val': 'val', 'test': 'test_2016_flickr'}
SIZES = {'train': 29_000, 'val': 1_014, 'test': 1_000}
LANGUAGES = ('en', 'de', 'fr', 'cs')

_FOLDERS = ('', 'raw', 'image_splits', 'data/task1/raw')
_FOLDERS += ('data/task1/image_splits',)
FILES = tuple(
  f'{folder}/{stem}.{end}'.lstrip('/')
  for folder in _FOLDERS
  for stem in SPLITS.values()
  for end in ('txt', *LANGUAGES, *(f'{code}.gz' for code in LANGUAGES))
)


def read(source: str | os.PathLike[str]) -> dict[str, captions.Captions]:
  """Reads `{train,val,test_2016_flickr}.{en,de,fr,cs}`, gzipped or not.

  Args:
    source: a clone of the repository, its data/task1, or a folder with these
      files and the lists of images (`train.txt`, `val.txt`,
      `test_2016_flickr.txt`). Languages other than English are optional.

  Returns:
    'train' (29,000 images), 'val' (1,014) and 'test' (1,000).

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file has another number of lines.
  """
  folder = pathlib.Path(source).expanduser()
  existing = [code for code in LANGUAGES if _find(folder, f'train.{code}')]
  languages = existing if 'en' in existing else ['en', *existing]
  splits = {}
  for split, stem in SPLITS.items():
    names = _lines(folder, f'{stem}.txt', SIZES[split])
    texts = {
      code: _lines(folder, f'{stem}.{code}', SIZES[split]) for code in languages
    }
    splits[split] = captions.build(
      [captions.flickr_id(name) for name in names],
      names,
      [
        (row, code, text.strip())
        for code, lines in texts.items()
        for row, text in enumerate(lines)
      ],
    )
  return splits


def _find(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  for parent in _FOLDERS:
    for suffix in ('', '.gz'):
      path = folder / parent / (name + suffix)
      if path.is_file():
        return path
  return None


def _lines(folder: pathlib.Path, name: str, expected: int) -> list[str]:
  path = _find(folder, name)
  if path is None:
    raise FileNotFoundError(
      f'{name} or {name}.gz is missing in {folder}, its raw, image_splits and '
      'data/task1: set config.data.source to a clone of '
      'github.com/multi30k/dataset'
    )
  try:
    zipped = path.suffix == '.gz'
    content = untrusted.read_gzip(path, 2**26) if zipped else path.read_bytes()
  except (OSError, ValueError) as error:
    raise ValueError(f'{path} cannot be decompressed: {error}') from error
  lines = captions.split_lines(path, content)
  if len(lines) != expected:
    raise ValueError(f'{path} has {len(lines)} lines; it must have {expected}')
  return lines
