"""Search: finds the images nearest to a sentence.

  python -m jaxretrieval.search --index index 'ein Hund am Strand'

prints rank, squared distance and name of the ten nearest images. Sentences may
be in any language of the text encoder, which the index names and which requires
the extra `extract`. For an encoder that cannot run here, give its features with
`--text_features queries.npy`. `--sheet out.png --images FOLDER` draws the
results (extra `plots`).
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

BLOCK = 2**14  # candidates in memory at once, if they are on disk
QUERIES = 256  # queries compared with a block at once
_HALF_ULP = 2.0**-24  # relative rounding error of float32


def search(
  index: index_files.Index, text_features: np.ndarray, k: int = 10
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the k images nearest to each text.

  The search is exact; images at equal distances keep the order of the index. A
  FAISS index, if there is one, only preselects candidates.

  Args:
    index: result of `index_files.load`.
    text_features: `[Q, Dt]`, output of the text encoder of the index.
    k: number of images, at least 1; at most all images are returned.

  Returns:
    Squared distances float32 `[Q, k]` of scaled features, ascending; and the
    rows of the images int64 `[Q, k]`.

  Raises:
    ValueError: features have another width or are not finite, or k is below 1.
  """
  text_features = np.asarray(text_features)
  if not isinstance(k, int | np.integer) or k < 1:
    raise ValueError(f'k={k!r} must be a whole number of 1 or more')
  finite = np.isfinite(text_features)
  if not finite.all():
    row = np.flatnonzero(~finite.all(axis=-1))[0]
    raise ValueError(f'text_features[{row}] is not finite: encode it again')
  queries = index.head.encode(text_features)
  return nearest(index.features, queries, k, index.faiss_index)


def nearest(
  candidates: np.ndarray | Features,
  queries: np.ndarray,
  k: int,
  faiss_index: object = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the k candidates nearest to each query, see `search`.

  Fast distances, |q|^2 - 2 q.c + |c|^2, preselect all candidates that could be
  among the k nearest under the largest possible rounding error. Their distances
  are then computed again as sums of squared differences in float64. Candidates
  are read once, in blocks; the k nearest so far are kept.
  """
  k = min(k, len(candidates))
  if isinstance(candidates, np.ndarray) and faiss_index is not None:
    best = _nearest_of_faiss(candidates, queries, k, faiss_index)
  else:
    best = [(np.empty(0), np.empty(0, np.int64)) for _ in queries]
    for start in tqdm(range(0, len(candidates), BLOCK), 'search', delay=5):
      block = candidates[start : start + BLOCK]
      squares = np.einsum('nd,nd->n', block, block)
      for first in range(0, len(queries), QUERIES):
        batch = queries[first : first + QUERIES]
        for i, product in enumerate(batch @ block.T, first):
          fast = squares - 2 * product + queries[i] @ queries[i]
          max_error = _max_distance_error(queries[i], squares)
          near, exact = _nearest_in(
            block, fast, max_error, queries[i], k, best[i]
          )
          best[i] = _first(
            k,
            np.concatenate([best[i][0], exact]),
            np.concatenate([best[i][1], start + near]),
          )
  distances = np.empty((len(queries), k), np.float32)
  rows = np.empty((len(queries), k), np.int64)
  for i, (query_distances, query_rows) in enumerate(best):
    distances[i], rows[i] = query_distances, query_rows
  return distances, rows


def _max_distance_error(query: np.ndarray, squares: np.ndarray) -> float:
  """Returns the largest error of the difference of two fast distances."""
  size = float(query @ query + squares.max())
  # Twice, because the errors of the two distances may have opposite signs.
  return 2 * 4 * (len(query) + 8) * _HALF_ULP * size


def _nearest_in(block, fast, max_error, query, k, best):
  """Returns block rows that may be among the k nearest, with distances."""
  worst = best[0][-1] if len(best[0]) == k else np.inf
  near = np.flatnonzero(fast <= worst + max_error)
  if len(near) > k:
    limit = np.partition(fast[near], k - 1)[k - 1] + max_error
    near = near[fast[near] <= limit]
  return near, _exact(block[near], query)


def _exact(features: np.ndarray, query: np.ndarray) -> np.ndarray:
  difference = features.astype(np.float64) - query
  return np.einsum('nd,nd->n', difference, difference)


def _first(k: int, distances: np.ndarray, rows: np.ndarray):
  order = np.lexsort((rows, distances))[:k]
  return distances[order], rows[order]


def _nearest_of_faiss(candidates, queries, k: int, faiss_index):
  squares = np.einsum('nd,nd->n', candidates, candidates)
  best = []
  for query in queries:
    max_error = _max_distance_error(query, squares)
    rows = _preselect(faiss_index, query, k, len(candidates), max_error)
    best.append(_first(k, _exact(candidates[rows], query), rows))
  return best


def _preselect(faiss_index, query, k: int, images: int, max_error: float):
  """Returns the rows that may be among the k nearest, from FAISS."""
  count = min(2 * k, images)
  while True:
    fast, rows = faiss_index.search(query[None], count)
    if count == images or fast[0, -1] > fast[0, k - 1] + max_error:
      return np.sort(rows[0])
    count = min(4 * count, images)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m jaxretrieval.search',
    description='Finds the images nearest to a sentence.',
  )
  add = parser.add_argument
  add('texts', nargs='*', help='sentences, in any language of the encoder')
  add('--index', type=pathlib.Path, required=True, help='folder of the index')
  add('--k', type=int, default=10, help='number of images')
  add('--json', action='store_true', help='print a JSON object for each text')
  add('--text_encoder', help='folder of the text encoder, if it is local')
  add('--text_features', type=pathlib.Path, help='.npy file [texts, Dt]')
  add('--sheet', type=pathlib.Path, help='PNG file to draw; requires --images')
  add('--images', type=pathlib.Path, help='folder or tar file of the images')
  add('--font', type=pathlib.Path, help='font file for the sheet')
  add('--device', help='torch device; default: a GPU if available')
  options = parser.parse_args(arguments)
  if not options.texts and not options.text_features:
    parser.error('give a sentence, or --text_features')
  if not all(text.strip() for text in options.texts):
    parser.error('a sentence is empty: give a text')
  if (options.sheet is None) != (options.images is None):
    parser.error('--sheet and --images belong together')
  if options.k < 1:
    parser.error(f'--k={options.k} must be 1 or more')
  try:
    _run(options)
  except (ImportError, OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  return 0


def _run(options: argparse.Namespace) -> None:
  index = index_files.load(options.index)
  texts = options.texts
  if options.text_features:
    features = untrusted.load_array(options.text_features)
    texts = texts or [f'row {i}' for i in range(len(features))]
    if len(texts) != len(features):
      raise ValueError(
        f'--text_features={options.text_features} has {len(features)} rows for '
        f'{len(texts)} texts: they must be as many'
      )
  else:
    features = encoders.text_encoder_of(
      index.info['encoders']['text'],
      options.text_encoder,
      device=options.device,
    ).encode(texts)
  distances, rows = search(index, features, options.k)
  for i, text in enumerate(texts):
    results = [
      {
        'image': index.names[row],
        'id': int(index.ids[row]),
        'distance': float(distance),
      }
      for row, distance in zip(rows[i], distances[i], strict=True)
    ]
    if options.json:
      print(json.dumps({'text': text, 'nearest': results}, ensure_ascii=False))
      continue
    if len(texts) > 1:
      print(text)
    for rank, result in enumerate(results, 1):
      print(f'{rank:3d}  {result["distance"]:.4f}  {result["image"]}')
  if options.sheet:
    _draw(index, texts, distances, rows, options)


def _draw(index, texts, distances, rows, options) -> None:
  names = [[index.names[row] for row in query_rows] for query_rows in rows]
  # One call for all names, because it lists the folder.
  files = iter(
    image_shards.find(options.images, [name for few in names for name in few])
  )
  sheet_rows = []
  for text, query_distances, few in zip(texts, distances, names, strict=True):
    shown = []
    for name in few:
      file = next(files)
      if file is None:
        raise ValueError(f'image {name} is not in {options.images}')
      shown.append(images.read_image(file))
    sheet_rows.append(
      sheet.Row(
        title='',
        text=text,
        images=shown,
        notes=[f'{distance:.3f}' for distance in query_distances],
      )
    )
  options.sheet.parent.mkdir(parents=True, exist_ok=True)
  title = f'Nearest of {len(index.names):,} images, with squared distances'
  try:
    sheet.draw(options.sheet, sheet_rows, title=title, font=options.font)
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      f"--sheet requires {error.name}: pip install -e '.[plots]' in a clone "
      "(or pip install 'randommix[plots]')",
      name=error.name,
    ) from error
  print(options.sheet, file=sys.stderr if options.json else sys.stdout)


if __name__ == '__main__':
  sys.exit(main())
