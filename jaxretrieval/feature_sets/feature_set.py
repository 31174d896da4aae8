"""Feature sets on disk: frozen features of images and captions.

A set is one folder, `<root>/<name>/<image>-<text>/1.0.0`: a TFDS data set in
ArrayRecord files with one record per image, written and read without
TensorFlow. `feature_set.json` beside the records names the encoders and
describes the content, including the sha256 of every file.

Folders must be local or mounted paths: writing ends with a rename, so that a
set is complete or absent. A writer that was killed leaves an unused folder
`.jaxretrieval_*` in the root, which can be removed.
"""

import hashlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxmix.files import atomic, untrusted
from jaxretrieval.feature_sets import checks
from jaxretrieval.feature_sets.captions import Captions, check_languages

RECORD = 'feature_set.json'


class Encoders(NamedTuple):
  """Ids of the encoders: exact, with version, preprocessing and pooling.

  The part of an id before the first comma is used in the name of the folder.

  Attributes:
    image: id of the image encoder, e.g. 'efficientnet-lite2-pytorch 0.1.0,
      bicubic 260, (x-127)/128, average pool'.
    text: id of the text encoder.
  """

  image: str
  text: str


class Split(NamedTuple):
  """A split in memory.

  Attributes:
    captions: captions of N images, M in total.
    images: float16 [N, Di], unscaled output of the image encoder.
    texts: float16 [M, Dt], output of the text encoder.
  """

  captions: Captions
  images: np.ndarray
  texts: np.ndarray


class FeatureSetInfo(NamedTuple):
  """Content of `feature_set.json`.

  Attributes:
    name: name of the data set.
    namespace: namespace of the image ids, see `captions`; ids are comparable
      between sets of one namespace.
    encoders: ids of the encoders of the features.
    licence: licence of the captions and images, one line.
    splits: for each split `images` (N), `captions` (number by language),
      `sha256` of its arrays and texts, `image_ids_sha256` (of the sorted ids),
      `mean_squared_image_norm` and `mean_squared_text_norm`.
    image_dim: Di.
    text_dim: Dt.
    dtype: 'float16'.
    shards: for each file `bytes` and `sha256`.
    source: sha256 of each file that the set was made from; may be empty.
  """

  name: str
  namespace: str
  encoders: Encoders
  licence: str
  splits: dict[str, dict[str, Any]]
  image_dim: int
  text_dim: int
  dtype: str
  shards: dict[str, dict[str, Any]]
  source: dict[str, str]


def encoders_fingerprint(encoders: tuple[str, str]) -> np.ndarray:
  """Returns the sha256 of the ids of both encoders, uint8 `[32]`.

  A head keeps it among its constants, because checkpoints hold arrays only.
  """
  ids = json.dumps([*encoders]).encode()
  return np.frombuffer(hashlib.sha256(ids).digest(), np.uint8)


def folder_of(
  root: str | os.PathLike[str], name: str, encoders: Encoders
) -> pathlib.Path:
  """Returns the folder of a set below `root`.

  >>> folder_of('sets', 'flickr8k', Encoders('LaBSE 2, mean', 'x')).as_posix()
  'sets/flickr8k/labse_2-x/1.0.0'
  """
  short = [
    re.sub(r'[^a-z0-9]+', '_', encoder.split(',')[0].lower()).strip('_')
    for encoder in encoders
  ]
  return (
    pathlib.Path(root).expanduser() / name / '-'.join(short) / checks.VERSION
  )


def write(
  root: str | os.PathLike[str],
  name: str,
  *,
  namespace: str,
  encoders: Encoders,
  licence: str,
  splits: Mapping[str, Split],
  source: Mapping[str, str] | None = None,
) -> pathlib.Path:
  """Checks a feature set and writes it atomically.

  Args:
    root: `config.data.dir`.
    name: name of the set: lower-case letters, digits and `_`.
    namespace: namespace of the image ids.
    encoders: ids of the encoders of the features.
    licence: licence of the captions and images, one line.
    splits: splits in any floating dtype; they are stored in float16.
    source: sha256 of the files that the set is made from, by name.

  Returns:
    The folder of the set. An existing folder with the same content is kept.

  Raises:
    ValueError: captions and images are inconsistent (see `captions.check`),
      arrays have wrong shapes, a feature is NaN, infinite or above 65504, or
      the folder holds another set. The message names the split and the row.
  """
  checks.check_name('name', name)
  for field, value in zip(Encoders._fields, encoders, strict=True):
    if not re.search('[A-Za-z0-9]', value.split(',')[0]):
      raise ValueError(
        f'encoders.{field}={value!r} must name an encoder before a comma'
      )
  if not splits:
    raise ValueError(f'{name} has no splits: give at least one')
  kept = {
    key: Split(*checks.validate_split(key, *split))
    for key, split in splits.items()
  }
  dims = {(s.images.shape[1], s.texts.shape[1]) for s in kept.values()}
  if len(dims) != 1:
    raise ValueError(
      f'the splits {list(splits)} of {name} have features of several widths '
      f'(image, text) {sorted(dims)}: encode all splits with the same encoders'
    )
  ((image_dim, text_dim),) = dims
  folder = folder_of(root, name, encoders)
  described = {key: checks.describe(*split) for key, split in kept.items()}
  if folder.exists():
    return _check_same(folder, described, encoders)
  from jaxretrieval.feature_sets import records

  folder.parents[2].mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    prefix='.jaxretrieval_', dir=folder.parents[2]
  ) as work:
    made = records.prepare(work, name, folder.parent.name, kept)
    info = FeatureSetInfo(
      name=name,
      namespace=namespace,
      encoders=encoders,
      licence=licence,
      splits=described,
      image_dim=image_dim,
      text_dim=text_dim,
      dtype='float16',
      shards={
        path.name: {
          'bytes': path.stat().st_size,
          'sha256': atomic.file_fingerprint(path),
        }
        for path in sorted(made.glob('*.array_record-*'))
      },
      source=dict(source or {}),
    )
    record = info._asdict() | {'encoders': encoders._asdict()}
    (made / RECORD).write_text(
      json.dumps(record, indent=2, ensure_ascii=False) + '\n', 'utf-8'
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
      made.rename(folder)
    except OSError:
      # Another process was faster: a rename does not replace a filled folder.
      if not folder.exists():
        raise
      return _check_same(folder, described, encoders)
  return folder


def read_info(folder: str | os.PathLike[str]) -> FeatureSetInfo:
  """Reads `feature_set.json`.

  Raises:
    FileNotFoundError: `folder` is not a feature set.
    ValueError: the file is damaged.
  """
  path = pathlib.Path(folder).expanduser() / RECORD
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing, so {folder} is not a feature set (a folder '
      '<dir>/<name>/<image>-<text>/1.0.0): make one with python -m '
      'jaxretrieval.extract or with config.data.source'
    )
  try:
    record = untrusted.read_json(path)
    checks.check_record(path, record)
    record['encoders'] = Encoders(**record['encoders'])
    checks.check_info(record)
    return FeatureSetInfo(**record)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path} is damaged ({error!r}): remove {folder} and '
      f'{checks.REBUILD_HINT}'
    ) from error


def read(
  folder: str | os.PathLike[str],
  split: str,
  *,
  languages: Sequence[str] | None = None,
) -> Split:
  """Reads a split into memory and verifies the sha256 of its files.

  Args:
    folder: folder of the feature set.
    split: one of `read_info(folder).splits`.
    languages: languages of the captions to keep; None keeps all. All images
      are kept, also those without such a caption: they are candidates.

  Returns:
    The split in the order in which it was written, captions sorted by image.

  Raises:
    FileNotFoundError: `folder` is not a feature set.
    ValueError: the split or a language is missing, or a file is damaged.
  """
  # Imported here, so that the trainer imports without tensorflow_datasets.
  from jaxretrieval.feature_sets import records

  folder = pathlib.Path(folder).expanduser()
  info = read_info(folder)
  if split not in info.splits:
    raise ValueError(
      f'split={split!r} is not in {folder}: choose one of '
      f'{", ".join(sorted(info.splits))}'
    )
  known = info.splits[split]['captions']
  wanted = check_languages(languages, known, f'{info.name} {split}')
  _check_shards(folder, info, split)
  images, texts = info.splits[split]['images'], sum(known.values())
  shapes = (images, info.image_dim), (texts, info.text_dim)
  whole = Split(*records.read(folder, split, *shapes))
  if wanted == set(known):
    return whole
  captions = whole.captions
  keep = [row for row, code in enumerate(captions.languages) if code in wanted]
  chosen = captions._replace(
    texts=[captions.texts[row] for row in keep],
    languages=[captions.languages[row] for row in keep],
    image_index=captions.image_index[keep],
  )
  return Split(chosen, whole.images, whole.texts[keep])


def _check_same(
  folder: pathlib.Path, described: dict[str, dict[str, Any]], encoders: Encoders
) -> pathlib.Path:
  """Returns an existing folder if it has the content to be written."""
  existing = read_info(folder)
  if existing.encoders != encoders:
    raise ValueError(
      f'{folder} was made by {existing.encoders}, not by {encoders}: name the '
      'difference before the first comma of the id, remove that folder, or '
      'choose another config.data.dir'
    )
  hashes = {key: split['sha256'] for key, split in described.items()}
  if hashes != {key: split['sha256'] for key, split in existing.splits.items()}:
    raise ValueError(
      f'{folder} holds other features or captions of {existing.name} '
      f'({list(existing.splits)}): remove it or choose another config.data.dir'
    )
  return folder


def _check_shards(folder: pathlib.Path, info: FeatureSetInfo, split: str):
  """Raises ValueError if a file of a split is missing or has changed."""
  for name, written in info.shards.items():
    if not name.startswith(f'{info.name}-{split}.'):
      continue
    path = folder / name
    size = path.stat().st_size if path.is_file() else None
    if (
      size != written['bytes']
      or atomic.file_fingerprint(path) != written['sha256']
    ):
      raise ValueError(
        f'{path} is missing or differs from the file that was written '
        f'({"missing" if size is None else f"{size} bytes"}, expected '
        f'{written["bytes"]}): remove {folder} and {checks.REBUILD_HINT}'
      )
