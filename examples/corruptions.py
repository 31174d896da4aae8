"""Shows the corruptions of table 4 on your own picture.

  python -m examples.corruptions cat.jpg --out corruptions.jpg

A row for each of the fifteen, severities 1 to 5 from left to right. Without a
picture it takes a photograph that comes with scikit-learn. It needs the extra
`plots`.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

import jax
import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from jaxmix import gallery
from jaxmix.classification.evaluators.corruptions import (
  CORRUPTIONS,
  SEVERITIES,
  corrupt,
)


def corrupted(image: np.ndarray) -> np.ndarray:
  """All corruptions of an image `[S, S, 3]`: uint8 `[15, 5, S, S, 3]`."""
  program = jax.jit(corrupt, static_argnums=0)
  rows = [
    [program(name, s, image[None], np.arange(1))[0] for s in SEVERITIES]
    for name in tqdm(CORRUPTIONS, 'corruptions', disable=None)
  ]
  return np.array(rows)


def draw(images: np.ndarray, path: pathlib.Path) -> None:
  """Writes a sheet of `corrupted` with their names."""
  from matplotlib.figure import Figure

  rows = len(CORRUPTIONS) // 3
  figure = Figure(figsize=(18, 1.5 * rows), layout='constrained')
  axes = figure.subplots(rows, 15)
  for axis in axes.flat:
    axis.axis('off')
  for i, name in enumerate(CORRUPTIONS):
    for j, image in enumerate(images[i]):
      axis = axes[i % rows, 5 * (i // rows) + j]
      axis.imshow(image)
      if j == 2:
        axis.set_title(name.replace('_', ' '), fontsize='medium')
  figure.savefig(path, dpi=80)


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  parser = argparse.ArgumentParser('python -m examples.corruptions')
  parser.add_argument('picture', nargs='?', type=pathlib.Path)
  parser.add_argument('--out', default='corruptions.jpg', type=pathlib.Path)
  parser.add_argument('--side', default=64, type=int)
  options = parser.parse_args(argv)
  if options.side < 16 or options.side % 16:
    parser.error(f'--side={options.side} must be a multiple of 16')
  if options.picture:
    try:
      with Image.open(options.picture) as picture:
        fitted = ImageOps.fit(picture.convert('RGB'), 2 * (options.side,))
    except OSError as error:
      parser.error(f'{options.picture}: {error}')
    image = np.asarray(fitted)
  else:
    image = gallery.sample_images(options.side)[0]
  draw(corrupted(image), options.out)
  print(options.out)


if __name__ == '__main__':
  main(sys.argv[1:])
