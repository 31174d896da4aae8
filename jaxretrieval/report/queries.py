"""Which queries a sheet shows, and what they find."""

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
  """A caption of each image: English if there is one; '' if there is none."""
  texts = [''] * len(captions.image_names)
  # The first caption of the first language is written last.
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
  """Draws Figure 2: a few images' captions in all languages, what they find.

  The images are drawn by `seed` from those with a caption in each language, not
  picked; of several captions the first is the query.

  Args:
    path: of the PNG.
    head: see `trained.Head`.
    split: its images are the gallery.
    languages: of the queries.
    source: folder or tar file of the pictures, found by name or stem.
    font: see `fonts.families`.
    seed: of the choice.

  Raises:
    ValueError: no image has a caption in each language, or a picture is not in
      `source`.
  """
  captions = split.captions
  first = {}
  for name in languages:
    rows = evaluators.caption_rows(split, name)
    about, where = np.unique(captions.image_index[rows], return_index=True)
    first[name] = dict(zip(about.tolist(), rows[where].tolist(), strict=True))
  common = sorted(set.intersection(*map(set, first.values())))
  if not common:
    raise ValueError(
      f'no image has a caption in each of {", ".join(languages)}: give fewer '
      '--languages'
    )
  examples = max(1, ROWS // len(languages))
  rng = np.random.default_rng(seed)
  chosen = rng.permutation(common)[:examples].tolist()

  gallery = split.images.astype(np.float32) / np.float32(head.scale)
  listed = images.list_images(source)
  rows = []
  for image in chosen:
    for i, name in enumerate(languages):
      row = first[name][image]
      text = head.encode(split.texts[row][None])[0]
      distance = np.square(text - gallery).sum(-1)
      rank = int((distance <= distance[image]).sum())  # itself is one
      nearest = np.argsort(distance, kind='stable')[:NEAREST].tolist()
      pictures = [_picture(captions, n, listed, source) for n in nearest]
      wanted = _picture(captions, image, listed, source) if i == 0 else None
      right = nearest.index(image) if image in nearest else None
      head_line = f'{name} · rank {rank:,} of {len(gallery):,}'
      text = captions.texts[row]
      rows.append(sheet.Row(head_line, text, pictures, right, wanted))
  sheet.draw(
    path,
    rows,
    title=f'Nearest {NEAREST} images; the right one has a green frame. '
    f'Queries drawn at random (seed {seed})',
    font=font,
  )


def _picture(captions: Captions, row: int, listed: Any, source: Any) -> Any:
  name = captions.image_names[row]
  (file,) = images.match([name], listed)
  if file is None:
    raise ValueError(f'{name} is not in {source}')
  return images.read_image(file)
