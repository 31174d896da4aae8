"""Feature sets on disk: frozen features of images and captions.

A set is one folder, `<root>/<name>/<image>-<text>/1.0.0`: a TFDS data set in
ArrayRecord files, one record for each image, made and read without TensorFlow.
`feature_set.json` beside the records says which encoders made it and what must
be in it, down to the sha256 of every file.

Folders are local (or mounted) paths: the last step of writing is a rename, so
that a set is either whole or not there. (Killed outright, a writer leaves a
folder `.jaxretrieval_*` in the root that nobody reads; remove it.)
"""

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
  """What made the features: exact, with version, preprocessing and pooling.

  Up to its first comma each is the short name that a folder carries.

  Attributes:
    image: e.g. 'efficientnet-lite2-pytorch 0.1.0, bicubic 260, (x-127)/128,
      average pool'.
    text: the same of the captions' encoder.
  """

  image: str
  text: str


class Split(NamedTuple):
  """One split in RAM.

  Attributes:
    captions: N images and M captions.
    images: float16 [N, Di], as the encoder gave them (not scaled).
    texts: float16 [M, Dt].
  """

  captions: Captions
  images: np.ndarray
  texts: np.ndarray


class Info(NamedTuple):
  """`feature_set.json`.

  Attributes:
    name: of the data set.
    namespace: what image ids count, see `captions`; sets of the same one can
      be compared.
    encoders: that made the features.
    licence: of the captions and images, one line.
    splits: for each split `images` (N), `captions` (how many by language),
      `sha256` of its arrays and texts, `image_ids_sha256` (of the sorted ids),
      `mean_squared_image_norm` and `mean_squared_text_norm`.
    image_dim: Di.
    text_dim: Dt.
    dtype: 'float16'.
    shards: for each file `bytes` and `sha256`.
    source: for each file that the set was made from its sha256; may be empty.
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


def folder_of(
  root: str | os.PathLike[str], name: str, encoders: Encoders
) -> pathlib.Path:
  """Where a set is kept below `root`.

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
  """Checks a feature set and writes it, whole or not at all.

  Args:
    root: `config.data.dir`.
    name: of the set: lower-case letters, digits and `_`.
    namespace: what the image ids count.
    encoders: what made the features.
    licence: of the captions and images, one line.
    splits: any floating dtype; stored as float16.
    source: files that the set is made from: name to sha256.

  Returns:
    Its folder. A set that is already there is left alone if it is this one.

  Raises:
    ValueError: captions and images that do not fit together (see `check`),
      rows of other lengths or dims, a feature that is NaN, infinite or above
      65504 (named: split, row, image or caption), or another set in that place.
  """
  checks.check_name('name', name)
  for field, value in zip(Encoders._fields, encoders, strict=True):
    if not re.search('[A-Za-z0-9]', value.split(',')[0]):
      raise ValueError(f'encoders.{field}={value!r} names no encoder')
  if not splits:
    raise ValueError(f'{name} has no splits')
  kept = {
    key: Split(*checks.stored(key, *split)) for key, split in splits.items()
  }
  dims = {(s.images.shape[1], s.texts.shape[1]) for s in kept.values()}
  if len(dims) != 1:
    raise ValueError(
      f'{name} has features of dims (image, text) {sorted(dims)} in its splits '
      f'{list(splits)}: all splits must be made by the same encoders'
    )
  ((image_dim, text_dim),) = dims
  folder = folder_of(root, name, encoders)
  described = {key: checks.describe(*split) for key, split in kept.items()}
  if folder.exists():
    return _same(folder, described, encoders)
  from jaxretrieval.feature_sets import records

  folder.parents[2].mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    prefix='.jaxretrieval_', dir=folder.parents[2]
  ) as work:
    made = records.prepare(work, name, folder.parent.name, kept)
    info = Info(
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
      # Another process was first; a rename cannot replace a filled folder.
      if not folder.exists():
        raise
      return _same(folder, described, encoders)
  return folder


def read_info(folder: str | os.PathLike[str]) -> Info:
  """Reads `feature_set.json`.

  Raises:
    FileNotFoundError: there is no feature set.
    ValueError: the file is broken.
  """
  path = pathlib.Path(folder).expanduser() / RECORD
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} is missing: {folder} is not a feature set, which is a folder '
      '<dir>/<name>/<image>-<text>/1.0.0. python -m jaxretrieval.extract makes '
      'one, so does config.data.source'
    )
  try:
    record = untrusted.read_json(path)
    checks.check_record(path, record)
    record['encoders'] = Encoders(**record['encoders'])
    checks.check_info(record)
    return Info(**record)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path} is broken ({error!r}): remove {folder} and {checks.AGAIN}'
    ) from error


def read(
  folder: str | os.PathLike[str],
  split: str,
  *,
  languages: Sequence[str] | None = None,
) -> Split:
  """Reads a split into RAM, after the files' sha256.

  Args:
    folder: of the feature set.
    split: one of `read_info(folder).splits`.
    languages: of the captions to keep; None keeps all. Images stay all, also
      those without such a caption: they belong to the gallery.

  Returns:
    The split in the order it was written in, captions ordered by image.

  Raises:
    FileNotFoundError: there is no feature set.
    ValueError: no such split or language, or a file is not as it was written.
  """
  # Here, so that training from arrays runs where tfds is missing.
  from jaxretrieval.feature_sets import records

  folder = pathlib.Path(folder).expanduser()
  info = read_info(folder)
  if split not in info.splits:
    raise ValueError(
      f'split={split!r}: {folder} has {", ".join(sorted(info.splits))}'
    )
  about = info.splits[split]
  wanted = check_languages(languages, about['captions'], f'{info.name} {split}')
  _check_shards(folder, info, split)
  images, texts = about['images'], sum(about['captions'].values())
  shapes = (images, info.image_dim), (texts, info.text_dim)
  whole = Split(*records.read(folder, split, *shapes))
  if wanted == set(about['captions']):
    return whole
  captions = whole.captions
  keep = [row for row, code in enumerate(captions.languages) if code in wanted]
  chosen = captions._replace(
    texts=[captions.texts[row] for row in keep],
    languages=[captions.languages[row] for row in keep],
    image_index=captions.image_index[keep],
  )
  return Split(chosen, whole.images, whole.texts[keep])


def _same(
  folder: pathlib.Path, described: dict[str, dict[str, Any]], encoders: Encoders
) -> pathlib.Path:
  """The folder, if what is there is what was to be written."""
  there = read_info(folder)
  if there.encoders != encoders:
    raise ValueError(
      f'{folder} was made by {there.encoders}, not by {encoders}: say what '
      'differs before the first comma, remove that folder, or choose another '
      'config.data.dir'
    )
  sums = {key: about['sha256'] for key, about in described.items()}
  if sums != {key: about['sha256'] for key, about in there.splits.items()}:
    raise ValueError(
      f'{folder} holds other features or captions of {there.name} '
      f'({list(there.splits)}): remove it or choose another config.data.dir'
    )
  return folder


def _check_shards(folder: pathlib.Path, info: Info, split: str):
  """Raises ValueError naming the first file that is not as written."""
  for name, wanted in info.shards.items():
    if not name.startswith(f'{info.name}-{split}.'):
      continue
    path = folder / name
    size = path.stat().st_size if path.is_file() else None
    if (
      size != wanted['bytes']
      or atomic.file_fingerprint(path) != wanted['sha256']
    ):
      raise ValueError(
        f'{path} ({"missing" if size is None else f"{size} bytes"}, expected '
        f'{wanted["bytes"]}) is not the file that was written: remove {folder} '
        f'and {checks.AGAIN}'
      )
