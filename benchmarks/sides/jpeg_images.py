"""JPEG files of ImageNet's size, made from real photographs."""

import io
import pathlib
import tarfile

import numpy as np
from PIL import Image

# The most frequent image size of ImageNet, and others.
SIZES = ((375, 500), (375, 500), (333, 500), (500, 375), (400, 300))
QUALITY = 90


def tiles(tar: pathlib.Path) -> tuple[list[np.ndarray], str]:
  """Returns images to combine, and a description for the report.

  Returns:
    uint8 images `[h, w, 3]`: those in the tar file if it exists, otherwise
    parts of the two photographs in scikit-learn.
  """
  if tar.is_file():
    with tarfile.open(tar) as archive:
      files = [archive.extractfile(x) for x in archive if x.isfile()]
      found = [
        np.asarray(Image.open(io.BytesIO(f.read())).convert('RGB'))
        for f in files
        if f
      ]
    return found, f'mosaics of the {len(found)} images in {tar.name}'
  from sklearn.datasets import load_sample_images

  pair = [np.asarray(image) for image in load_sample_images()['images']]
  found = [
    image[y : y + 224, x : x + 224]
    for image in pair
    for y in range(0, 203, 29)
    for x in range(0, 416, 32)
  ]
  return found, "mosaics of parts of scikit-learn's two photographs"


def make(tar: pathlib.Path, folder: pathlib.Path, count: int) -> str:
  """Writes `count` files into `folder`; returns a description of them."""
  images, source = tiles(tar)
  rng = np.random.default_rng(0)
  bytes_ = 0
  for i in range(count):
    height, width = SIZES[i % len(SIZES)]
    six = [images[k] for k in rng.choice(len(images), 6, replace=False)]
    grid = (
      [six[:3], six[3:]] if width > height else [six[:2], six[2:4], six[4:]]
    )
    whole = np.vstack([np.hstack(row) for row in grid])
    y = rng.integers(whole.shape[0] - height + 1)
    x = rng.integers(whole.shape[1] - width + 1)
    path = folder / f'{i:05}.jpg'
    image = Image.fromarray(whole[y : y + height, x : x + width])
    image.save(path, 'JPEG', quality=QUALITY)
    bytes_ += path.stat().st_size
  return (
    f'{count} JPEG files of about 500x375, quality {QUALITY}, '
    f'{bytes_ / count / 1e3:.0f} kB on average: {source}'
  )


def read(folder: str) -> list[bytes]:
  """Returns the contents of the files, sorted by name."""
  return [path.read_bytes() for path in sorted(pathlib.Path(folder).glob('*'))]
