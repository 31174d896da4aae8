"""XTD10: 1,000 COCO images with one caption each in eleven languages.

A test set: 800 of its images are in COCO train2014, 200 in val2014. The German
and French captions are from the MIC set, the Japanese ones from STAIR; the
others, except for English, are translations. See arXiv 2012.05107 and
github.com/adobe-research/Cross-lingual-Test-Dataset-XTD10.
"""

import os
import pathlib
from typing import Any

from jaxmix.files import untrusted
from jaxretrieval.feature_sets import captions

NAMESPACE = 'coco'
LICENCE = (
  'XTD10: Adobe Research License, non-commercial research only; keep the '
  'licence with the data. COCO images: terms of Flickr'
)
FILES = (
  'XTD10/test_*.txt',
  'MIC/test_*.txt',
  'STAIR/test_*.txt',
  'xtd10-*.json',
  'multilingual_mscoco_captions-*.json',
)
LANGUAGES = ('en', 'de', 'fr', 'it', 'es', 'ru', 'ja', 'zh', 'pl', 'tr', 'ko')
CAPTIONS = 1000

_FOLDERS = {'de': 'MIC', 'fr': 'MIC', 'ja': 'STAIR'}  # the others: XTD10
_THEIR_CODES = {'ja': 'jp'}


def read(source: str | os.PathLike[str]) -> dict[str, captions.Captions]:
  """Reads the publisher's folder, or the JSON files of CLIP_benchmark.

  Args:
    source: the folder of XTD10/, MIC/ and STAIR/; or one with
      `xtd10-<language>.json` (or `multilingual_mscoco_captions-...`) for some
      of the languages.

  Returns:
    {'test': captions} with 1,000 captions in each language.

  Raises:
    FileNotFoundError: the files are missing.
    ValueError: a file does not have 1,000 rows, or files are about different
      images.
  """
  folder = pathlib.Path(source).expanduser()
  if (folder / 'XTD10').is_dir():
    names, texts = _read_text(folder)
  else:
    names, texts = _read_json(folder)
  split = captions.build(
    [captions.coco_id(name) for name in names],
    names,
    [
      (row, language, text.strip())
      for language, lines in texts.items()
      for row, text in enumerate(lines)
    ],
  )
  return {'test': split}


def _read_text(folder: pathlib.Path) -> tuple[list[str], dict[str, list[str]]]:
  names = _checked(folder / 'XTD10' / 'test_image_names.txt')
  texts = {}
  for language in LANGUAGES:
    code = _THEIR_CODES.get(language, language)
    parent = folder / _FOLDERS.get(language, 'XTD10')
    texts[language] = _checked(parent / f'test_1kcaptions_{code}.txt')
  return names, texts


def _checked(path: pathlib.Path) -> list[str]:
  lines = captions.read_lines(path)
  if len(lines) != CAPTIONS:
    raise ValueError(f'{path} has {len(lines)} lines; it must have {CAPTIONS}')
  return lines


def _read_json(folder: pathlib.Path) -> tuple[list[str], dict[str, list[str]]]:
  names, texts, first = [], {}, None
  for language in LANGUAGES:
    code = _THEIR_CODES.get(language, language)
    for stem in ('xtd10', 'multilingual_mscoco_captions'):
      path = folder / f'{stem}-{code}.json'
      if language in texts or not path.is_file():
        continue
      of_file, texts[language] = _one_json(path)
      if names and of_file != names:
        raise ValueError(f'{path} is about other images than {first}')
      names, first = of_file, first or path
  if not texts:
    raise FileNotFoundError(
      f'{folder} contains neither XTD10 nor xtd10-<language>.json: '
      'set config.data.source to a clone of '
      'github.com/adobe-research/Cross-lingual-Test-Dataset-XTD10'
    )
  return names, texts


def _one_json(path: pathlib.Path) -> tuple[list[str], list[str]]:
  try:
    content: Any = untrusted.read_json(path, untrusted.MAX_CAPTIONS)
  except ValueError as error:
    raise ValueError(f'{path} is not JSON: {error}') from error
  rows = {}
  for key in ('image_paths', 'annotations'):
    rows[key] = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows[key], list) or not all(
      isinstance(value, str) for value in rows[key]
    ):
      raise ValueError(f'{path}: {key!r} is not a list of strings')
    if len(rows[key]) != CAPTIONS:
      raise ValueError(
        f'{path}: {key!r} has {len(rows[key])} rows; it must have {CAPTIONS} '
        '(CLIP_benchmark leaves out images that it did not find)'
      )
  # CLIP_benchmark writes 'indicies'; the field is optional.
  indices = content.get('indices', content.get('indicies'))
  if indices is not None and indices != list(range(CAPTIONS)):
    raise ValueError(f"{path}: 'indices' must count from 0 to 999")
  names = [image.rpartition('/')[2] for image in rows['image_paths']]
  return names, rows['annotations']
