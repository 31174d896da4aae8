"""Figure of the corruptions of table 4, applied to an image.

  python -m examples.corruptions cat.jpg --out corruptions.jpg

Each of the fifteen corruptions has severities 1 to 5 from left to right.
Without an image, the command uses a photograph from scikit-learn. Needs the
extra `plots`.
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
  """Returns all corruptions `[15, 5, S, S, 3]` of a uint8 image `[S, S, 3]`."""
  program = jax.jit(corrupt, static_argnums=0)
  rows = [
    [program(name, s, image[None], np.arange(1))[0] for s in SEVERITIES]
    for name in tqdm(CORRUPTIONS, 'corruptions', disable=None)
  ]
  return np.array(rows)


def draw(images: np.ndarray, path: pathlib.Path) -> None:
  """Writes the figure of the images that `corrupted` returned."""
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
  parser.add_argument(
    'image', nargs='?', type=pathlib.Path, help='default: a sample photograph'
  )
  parser.add_argument('--out', default='corruptions.jpg', type=pathlib.Path)
  parser.add_argument(
    '--side', default=64, type=int, help='pixels; a multiple of 16'
  )
  options = parser.parse_args(argv)
  if options.side < 16 or options.side % 16:
    parser.error(f'--side={options.side} must be a positive multiple of 16')
  if options.image:
    try:
      with Image.open(options.image) as image:
        fitted = ImageOps.fit(image.convert('RGB'), 2 * (options.side,))
    except OSError as error:
      parser.error(f'cannot read the image {options.image}: {error}')
    pixels = np.asarray(fitted)
  else:
    pixels = gallery.sample_images(options.side)[0]
  draw(corrupted(pixels), options.out)
  print(options.out)


if __name__ == '__main__':
  main(sys.argv[1:])
