r"""Arrays in a layout of VSE++, clip-retrieval, or plain npz files.

The layout follows from the files in the folder. Each also requires an
`encoders.json` (see `ready_made`), which may have "language" (of the captions,
by default en) and "licence".

* VSE++: `<split>_ims.npy` [N, Di], possibly with each row repeated K times;
  `<split>_caps.txt` with N * K lines, K captions per image; `<split>_txts.npy`
  [N * K, Dt].
* clip-retrieval: `img_emb/img_emb_0.npy`, `text_emb/text_emb_0.npy`,
  `metadata/metadata_0.parquet` with `image_path`, `caption` (and perhaps
  `language`), and so on for 1, 2, ...: split 'train'; or one folder of these
  per split. Rows with one path are one image. Requires pyarrow.
* plain: `<split>.npz` with `images` [N, Di], `texts` [M, Dt], `image_index`
  [M], `captions` [M] (strings), and perhaps `languages` [M], `image_names` [N].

Images with file names of COCO or Flickr8k have the ids of these, so that
overlaps with other sets are detected. Otherwise an id is a hash of the image
feature: the same image is recognised in sets of the same encoder.
"""

import hashlib
import os
import pathlib
import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from jaxretrieval.feature_sets import captions
from jaxretrieval.feature_sets.datasets import ready_made
from jaxretrieval.feature_sets.feature_set import Split

NAMESPACE = 'image-features'  # unless file names are those of COCO or Flickr
LICENCE = "the owner's"
FILES = (
  '*_ims.npy',
  '*_caps.txt',
  '*_txts.npy',
  '*.npz',
  'img_emb/*.npy',
  'text_emb/*.npy',
  'metadata/*.parquet',
  '*/img_emb/*.npy',
  '*/text_emb/*.npy',
  '*/metadata/*.parquet',
)


class _Rows(NamedTuple):
  images: np.ndarray  # [N, Di]
  texts: np.ndarray  # [M, Dt]
  index: np.ndarray  # [M], the image of each caption
  captions: list[str]  # [M]
  languages: list[str]  # [M]
  names: list[str] | None  # [N]


def read(source: str | os.PathLike[str]) -> dict[str, captions.Captions]:
  """Returns the captions of `read_splits`."""
  return {k: v.captions for k, v in read_splits(source).items()}


def namespace(splits: dict[str, Split]) -> str:
  """Returns the namespace of the ids: 'coco', 'flickr' or `NAMESPACE`."""
  names = [n for split in splits.values() for n in split.captions.image_names]
  return _namespace(names)[0]


def read_splits(source: str | os.PathLike[str]) -> dict[str, Split]:
  """Reads captions and features in any of the three layouts.

  Raises:
    FileNotFoundError: no layout is recognised, or one of its files is missing.
    ValueError: numbers of rows do not match, an image has no caption, or a file
      holds pickled objects. The message names the file.
  """
  folder = pathlib.Path(source).expanduser()
  language = ready_made.about(folder).get('language', 'en')
  arrays: dict[str, _Rows] = {}
  for path in sorted(folder.glob('*_ims.npy')):
    split = path.name.removesuffix('_ims.npy')
    arrays[split] = _vsepp(folder, split, language)
  for path in sorted(folder.glob('*img_emb')) + sorted(
    folder.glob('*/img_emb')
  ):
    split = 'train' if path.parent == folder else path.parent.name
    arrays[split] = _clip_retrieval(path.parent, language)
  if not arrays:
    for path in sorted(folder.glob('*.npz')):
      arrays[path.stem] = _plain(path, language)
  if not arrays:
    raise FileNotFoundError(
      f'{folder} contains neither <split>_ims.npy (VSE++), '
      'img_emb/img_emb_0.npy (clip-retrieval) nor <split>.npz'
    )
  known = [name for rows in arrays.values() for name in rows.names or ['']]
  _, id_of = _namespace(known)
  splits = {}
  for split, rows in arrays.items():
    names = rows.names or [f'{split}_{i}' for i in range(len(rows.images))]
    ids = _hashed(rows.images) if id_of is None else list(map(id_of, names))
    triples = zip(
      rows.index.tolist(), rows.languages, rows.captions, strict=True
    )
    order = np.argsort(rows.index, kind='stable')  # the order of `build`
    try:
      built = captions.build(ids, names, triples)
    except ValueError as error:
      raise ValueError(f'{folder}, {split}: {error}') from error
    splits[split] = Split(built, rows.images, rows.texts[order])
  return splits


def _namespace(names: list[str]):
  last = [name.rpartition('/')[2] for name in names]
  if all(re.match(r'COCO_[a-z]+\d{4}_\d{12}\.', name) for name in last):
    return 'coco', captions.coco_id
  if all(re.match(r'\d+_[0-9a-f]{10}\.', name) for name in last):
    return 'flickr', captions.flickr_id
  return NAMESPACE, None


def _hashed(images: np.ndarray) -> list[int]:
  """Hashes rows; the copies of a row get different hashes, in their order."""
  seen: Counter[bytes] = Counter()
  ids = []
  for row in np.asarray(images, np.float16):
    key = row.tobytes()
    salt = seen[key].to_bytes(8, 'little')
    seen[key] += 1
    digest = hashlib.blake2b(key, digest_size=8, salt=salt).digest()
    ids.append(int.from_bytes(digest, 'little', signed=True))
  return ids


def _vsepp(folder: pathlib.Path, split: str, language: str) -> _Rows:
  images = ready_made.load(folder / f'{split}_ims.npy')
  texts = ready_made.load(folder / f'{split}_txts.npy')
  path = folder / f'{split}_caps.txt'
  lines = [text.strip() for text in captions.read_lines(path)]
  each, rest = divmod(len(lines), max(len(images), 1))
  if rest or not each or len(texts) != len(lines):
    raise ValueError(
      f'{path} has {len(lines)} captions for {len(images)} rows of '
      f'{split}_ims.npy and {len(texts)} rows of {split}_txts.npy: it must '
      'have K captions for each image, and one text row for each caption'
    )
  if each == 1:
    # Image rows may be repeated for each caption, as in the files of VSE++.
    first = 1
    while first < len(images) and np.array_equal(images[first], images[0]):
      first += 1
    if len(images) % first == 0 and all(
      np.array_equal(images[i], images[i - i % first])
      for i in range(len(images))
    ):
      images, each = images[::first], first
  index = np.arange(len(lines)) // each
  return _Rows(images, texts, index, lines, [language] * len(lines), None)


def _clip_retrieval(folder: pathlib.Path, language: str) -> _Rows:
  try:
    from pyarrow import parquet
  except ImportError as error:
    raise ImportError(
      f'{folder / "metadata"} holds parquet files, which require pyarrow: pip '
      'install pyarrow'
    ) from error
  images, texts, paths, lines, languages = [], [], [], [], []
  parts = sorted(
    (folder / 'img_emb').glob('img_emb_*.npy'),
    key=lambda path: int(path.stem.rpartition('_')[2]),
  )
  for path in parts:
    part = path.stem.removeprefix('img_emb_')
    image = ready_made.load(path)
    text = ready_made.load(folder / 'text_emb' / f'text_emb_{part}.npy')
    metadata = folder / 'metadata' / f'metadata_{part}.parquet'
    if not metadata.is_file():
      raise FileNotFoundError(f'{metadata} is missing')
    table = parquet.read_table(metadata)
    if not {'image_path', 'caption'} <= set(table.column_names):
      raise ValueError(
        f'{metadata} has the columns {table.column_names}; it must have '
        'image_path and caption'
      )
    if not len(image) == len(text) == table.num_rows:
      raise ValueError(
        f'{path} has {len(image)} rows, its text_emb {len(text)} and its '
        f'metadata {table.num_rows}: they must be as many'
      )
    images.append(image)
    texts.append(text)
    paths += table['image_path'].to_pylist()
    lines += [caption or '' for caption in table['caption'].to_pylist()]
    languages += (
      table['language'].to_pylist()
      if 'language' in table.column_names
      else [language] * len(image)
    )
  if not parts:
    raise FileNotFoundError(f'{folder / "img_emb/img_emb_0.npy"} is missing')
  rows: dict[str, int] = {}
  index = np.array([rows.setdefault(path, len(rows)) for path in paths])
  firsts = np.unique(index, return_index=True)[1]
  return _Rows(
    np.concatenate(images)[firsts],
    np.concatenate(texts),
    index,
    lines,
    languages,
    list(rows),
  )


def _plain(path: pathlib.Path, language: str) -> _Rows:
  names = ready_made.names(path)
  missing = {'images', 'texts', 'image_index', 'captions'} - names
  if missing:
    raise ValueError(f'{path} lacks the arrays {", ".join(sorted(missing))}')
  read = {name: ready_made.load(path, name) for name in names}
  lines = read['captions'].tolist()
  for name in ('texts', 'image_index', 'languages'):
    if name in names and len(read[name]) != len(lines):
      raise ValueError(
        f'{path}: {name} has {len(read[name])} rows for {len(lines)} captions'
      )
  index = read['image_index']
  if not np.issubdtype(index.dtype, np.integer):
    raise ValueError(
      f'{path}: image_index is {index.dtype}; it must be integer'
    )
  outside = np.flatnonzero((index < 0) | (index >= len(read['images'])))
  if outside.size:
    raise ValueError(
      f'{path}: image_index[{outside[0]}]={index[outside[0]]}, but there are '
      f'{len(read["images"])} images'
    )
  languages = read['languages'].tolist() if 'languages' in names else None
  return _Rows(
    read['images'],
    read['texts'],
    index,
    lines,
    languages or [language] * len(lines),
    read['image_names'].tolist() if 'image_names' in names else None,
  )
