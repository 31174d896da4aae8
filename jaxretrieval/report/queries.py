"""Query sheet: random queries in all languages and their nearest images."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxretrieval.extract import images
from jaxretrieval.feature_sets.captions import Captions
from jaxretrieval.feature_sets.feature_set import Split
from jaxretrieval.report import sheet
from jaxretrieval.training import evaluators

ROWS, NEAREST = 12, 5


def image_texts(captions: Captions, languages: Sequence[str]) -> list[str]:
  """Returns a caption of each image, English if possible; '' if none."""
  texts = [''] * len(captions.image_names)
  # The preferred caption is written last.
  first = [name for name in languages if name != 'en'] + ['en']
  for language in first:
    for row in reversed(range(len(captions.texts))):
      if captions.languages[row] == language:
        texts[captions.image_index[row]] = captions.texts[row]
  return texts


def draw_sheet(
  path: pathlib.Path,
  *,
  head: Any,
  split: Split,
  languages: Sequence[str],
  source: str | os.PathLike[str],
  font: str | os.PathLike[str] | None = None,
  seed: int = 0,
) -> None:
  """Draws Figure 2: captions of a few images in all languages, with results.

  The images are a random sample of those with a caption in each language. The
  first caption in a language is the query.

  Args:
    path: path of the PNG file.
    head: an `exported_head.ExportedHead`.
    split: its images are the candidates.
    languages: languages of the queries.
    source: folder or tar file of the images, see `images.match`.
    font: see `fonts.families`.
    seed: seed of the sample.

  Raises:
    ValueError: no image has a caption in each language, or an image is not in
      `source`.
  """
  captions = split.captions
  first = {}
  for name in languages:
    rows = evaluators.caption_rows(split, name)
    image_rows, index = np.unique(captions.image_index[rows], return_index=True)
    first[name] = dict(
      zip(image_rows.tolist(), rows[index].tolist(), strict=True)
    )
  common = sorted(set.intersection(*map(set, first.values())))
  if not common:
    raise ValueError(
      f'no image has a caption in each of {", ".join(languages)}: give fewer '
      'languages with --languages'
    )
  examples = max(1, ROWS // len(languages))
  rng = np.random.default_rng(seed)
  chosen = rng.permutation(common)[:examples].tolist()

  candidates = split.images.astype(np.float32) / np.float32(head.scale)
  listed = images.list_images(source)
  rows = []
  for image in chosen:
    for i, name in enumerate(languages):
      row = first[name][image]
      text = head.encode(split.texts[row][None])[0]
      distance = np.square(text - candidates).sum(-1)
      rank = int((distance <= distance[image]).sum())  # counts the image itself
      nearest = np.argsort(distance, kind='stable')[:NEAREST].tolist()
      shown = [_read(captions, n, listed, source) for n in nearest]
      target = _read(captions, image, listed, source) if i == 0 else None
      correct = nearest.index(image) if image in nearest else None
      title = f'{name} · rank {rank:,} of {len(candidates):,}'
      text = captions.texts[row]
      rows.append(sheet.Row(title, text, shown, correct, target))
  sheet.draw(
    path,
    rows,
    title=f'Nearest {NEAREST} images; the correct one has a green frame. '
    f'Queries are a random sample (seed {seed})',
    font=font,
  )


def _read(captions: Captions, row: int, listed: Any, source: Any) -> Any:
  name = captions.image_names[row]
  (file,) = images.match([name], listed)
  if file is None:
    raise ValueError(f'image {name} is not in {source}')
  return images.read_image(file)
