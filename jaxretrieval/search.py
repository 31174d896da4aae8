"""Finds the images nearest to a sentence.

  python -m jaxretrieval.search --index index 'ein Hund am Strand'

prints rank, squared distance and name of the ten nearest, in any language that
the text encoder knows. The encoder is the one that the index names, and needs
the extra `extract`; whoever has text features of another, which cannot be run
here, gives them with `--text_features queries.npy`. `--sheet out.png --images
FOLDER` draws the answer (extra `plots`).
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from jaxmix.files import untrusted
from jaxretrieval.extract import encoders, image_shards, images
from jaxretrieval.index import index_files
from jaxretrieval.index.sharded_array import Features
from jaxretrieval.report import sheet

BLOCK = 2**14  # rows of the gallery in memory, if it is on disk
QUERIES = 256  # compared with a block at once
_HALF_ULP = 2.0**-24  # relative rounding error of float32


def search(
  opened: index_files.Index, text_features: np.ndarray, k: int = 10
) -> tuple[np.ndarray, np.ndarray]:
  """Finds the k images nearest to each text.

  The same order as by all squared distances in turn; images at the same
  distance are in the gallery's order. FAISS, where the index has it, only
  names candidates.

  Args:
    opened: what `index.load` gives.
    text_features: `[Q, Dt]`, as the text encoder of the index gives them.
    k: how many, at least 1; all of them where the gallery has fewer.

  Returns:
    Squared distances float32 `[Q, k]`, in units of `image / scale`, ascending;
    and the rows of the images int64 `[Q, k]`.

  Raises:
    ValueError: features of another width or that are not finite, k below 1.
  """
  text_features = np.asarray(text_features)
  if k < 1:
    raise ValueError(f'k={k} must be 1 or more')
  finite = np.isfinite(text_features)
  if not finite.all():
    row = np.flatnonzero(~finite.all(axis=-1))[0]
    raise ValueError(f'text features: row {row} is not finite')
  queries = opened.head.encode(text_features)
  return nearest(opened.gallery, queries, k, opened.flat)


def nearest(
  gallery: np.ndarray | Features,
  queries: np.ndarray,
  k: int,
  flat: object = None,
) -> tuple[np.ndarray, np.ndarray]:
  """The k rows of `gallery` nearest to each of `queries`; see `search`.

  Fast distances, |q|^2 - 2 q.g + |g|^2, choose candidates: all that could be
  among the k nearest if every rounding error were as large as it can get.
  Their distances are then taken again as sums of squared differences in
  float64. The gallery is read once, by blocks; the k nearest so far are kept.
  """
  k = min(k, len(gallery))
  if isinstance(gallery, np.ndarray) and flat is not None:
    found = _nearest_of_faiss(gallery, queries, k, flat)
  else:
    found = [(np.empty(0), np.empty(0, np.int64)) for _ in queries]
    for start in tqdm(range(0, len(gallery), BLOCK), 'search', delay=5):
      block = gallery[start : start + BLOCK]
      squares = np.einsum('nd,nd->n', block, block)
      for first in range(0, len(queries), QUERIES):
        some = queries[first : first + QUERIES]
        for i, product in enumerate(some @ block.T, first):
          fast = squares - 2 * product + queries[i] @ queries[i]
          slack = _slack(queries[i], squares)
          near, exact = _nearest_in(block, fast, slack, queries[i], k, found[i])
          found[i] = _first(
            k,
            np.concatenate([found[i][0], exact]),
            np.concatenate([found[i][1], start + near]),
          )
  distances = np.empty((len(queries), k), np.float32)
  places = np.empty((len(queries), k), np.int64)
  for i, (exact, where) in enumerate(found):
    distances[i], places[i] = exact, where
  return distances, places


def _slack(query: np.ndarray, squares: np.ndarray) -> float:
  """By how much two fast distances can be in the wrong order."""
  size = float(query @ query + squares.max())
  # Twice: the k-th and the candidate may both be wrong, in opposite ways.
  return 2 * 4 * (len(query) + 8) * _HALF_ULP * size


def _nearest_in(block, fast, slack, query, k, best):
  """Rows of a block that may be among the k nearest, and their distances."""
  worst = best[0][-1] if len(best[0]) == k else np.inf
  near = np.flatnonzero(fast <= worst + slack)
  if len(near) > k:
    limit = np.partition(fast[near], k - 1)[k - 1] + slack
    near = near[fast[near] <= limit]
  return near, _exact(block[near], query)


def _exact(items: np.ndarray, query: np.ndarray) -> np.ndarray:
  difference = items.astype(np.float64) - query
  return np.einsum('nd,nd->n', difference, difference)


def _first(k: int, distances: np.ndarray, places: np.ndarray):
  order = np.lexsort((places, distances))[:k]
  return distances[order], places[order]


def _nearest_of_faiss(gallery, queries, k: int, flat):
  squares = np.einsum('nd,nd->n', gallery, gallery)
  found = []
  for query in queries:
    slack = _slack(query, squares)
    candidates = _ask_faiss(flat, query, k, len(gallery), slack)
    exact = _exact(gallery[candidates], query)
    found.append(_first(k, exact, candidates))
  return found


def _ask_faiss(flat, query, k: int, images: int, slack: float) -> np.ndarray:
  wide = min(2 * k, images)
  while True:
    fast, found = flat.search(query[None], wide)
    if wide == images or fast[0, -1] > fast[0, k - 1] + slack:
      return np.sort(found[0])
    wide = min(4 * wide, images)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m jaxretrieval.search',
    description='Finds the images nearest to a sentence.',
  )
  add = parser.add_argument
  add('texts', nargs='*', help='sentences, in any language of the encoder')
  add('--index', type=pathlib.Path, required=True, help='folder of the index')
  add('--k', type=int, default=10, help='how many images')
  add('--json', action='store_true', help='a JSON object for each text')
  add('--text_encoder', help='where it is, if it was a local folder')
  add('--text_features', type=pathlib.Path, help='.npy [texts, Dt] instead')
  add('--sheet', type=pathlib.Path, help='PNG to draw; needs --images')
  add('--images', type=pathlib.Path, help='folder or tar file of the images')
  add('--font', type=pathlib.Path, help='for texts on the sheet')
  add('--device', help='of torch; default: a GPU if there is one')
  options = parser.parse_args(arguments)
  if not options.texts and not options.text_features:
    parser.error('say what to look for')
  if not all(text.strip() for text in options.texts):
    parser.error('a sentence is empty')
  if (options.sheet is None) != (options.images is None):
    parser.error('--sheet and --images belong together')
  if options.k < 1:
    parser.error('--k is 1 or more')
  try:
    _run(options)
  except (ImportError, OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0


def _run(options: argparse.Namespace) -> None:
  opened = index_files.load(options.index)
  texts = options.texts
  if options.text_features:
    features = untrusted.load_array(options.text_features)
    texts = texts or [f'row {i}' for i in range(len(features))]
    if len(texts) != len(features):
      raise ValueError(
        f'{options.text_features} has {len(features)} rows for {len(texts)} '
        'texts'
      )
  else:
    features = encoders.text_encoder_of(
      opened.info['encoders']['text'],
      options.text_encoder,
      device=options.device,
    ).encode(texts)
  distances, rows = search(opened, features, options.k)
  for text, near, where in zip(texts, distances, rows, strict=True):
    names = [opened.names[row] for row in where]
    if options.json:
      found = [
        {'image': name, 'id': int(opened.ids[row]), 'distance': float(distance)}
        for name, row, distance in zip(names, where, near, strict=True)
      ]
      print(json.dumps({'text': text, 'nearest': found}, ensure_ascii=False))
      continue
    if len(texts) > 1:
      print(text)
    for rank, (name, distance) in enumerate(zip(names, near, strict=True), 1):
      print(f'{rank:3d}  {distance:.4f}  {name}')
  if options.sheet:
    _draw(opened, texts, distances, rows, options)


def _draw(opened, texts, distances, rows, options) -> None:
  names = [[opened.names[row] for row in where] for where in rows]
  # All at once: it lists the folder.
  found = iter(
    image_shards.find(options.images, [n for some in names for n in some])
  )
  drawn = []
  for text, near, some in zip(texts, distances, names, strict=True):
    files = [next(found) for _ in some]
    for name, file in zip(some, files, strict=True):
      if file is None:
        raise ValueError(f'{name} is not in {options.images}')
    drawn.append(
      sheet.Row(
        head='',
        text=text,
        images=[images.read_image(file) for file in files if file],
        notes=[f'{distance:.3f}' for distance in near],
      )
    )
  options.sheet.parent.mkdir(parents=True, exist_ok=True)
  title = f'Nearest of {len(opened.names):,} images, and squared distances'
  try:
    sheet.draw(options.sheet, drawn, title=title, font=options.font)
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      f"--sheet needs {error.name}: pip install 'jaxmix[plots]'",
      name=error.name,
    ) from error
  print(options.sheet, file=sys.stderr if options.json else sys.stdout)


if __name__ == '__main__':
  sys.exit(main())
