"""JPEG files of many sizes, cropped from scikit-learn's two photographs."""

import functools
import io

import numpy as np
from PIL import Image


@functools.cache
def originals() -> list[np.ndarray]:
  """Returns two photographs, uint8 `[427, 640, 3]`."""
  from sklearn.datasets import load_sample_images

  samples = load_sample_images()
  return [np.asarray(image) for image in samples['images']]


def cut(index: int, height: int, width: int) -> np.ndarray:
  """Returns a crop of a photograph, or of a mosaic if it is larger."""
  rng = np.random.default_rng(index)
  one, other = originals()[:: 1 if index % 2 else -1]
  wide = np.hstack([one, other[:, ::-1]])
  while min(wide.shape[0] // height, wide.shape[1] // width) < 1:
    wide = np.vstack([np.hstack([wide, wide[:, ::-1]])] * 2)
  top = rng.integers(wide.shape[0] - height + 1)
  left = rng.integers(wide.shape[1] - width + 1)
  return np.ascontiguousarray(wide[top : top + height, left : left + width])


def encode(image: np.ndarray, mode: str = 'RGB', **options) -> bytes:
  """Returns a JPEG file; `options` are Pillow's."""
  file = io.BytesIO()
  jpeg = Image.fromarray(image).convert(mode)
  jpeg.save(file, 'JPEG', **{'quality': 90} | options)
  return file.getvalue()


def decode(data: bytes) -> np.ndarray:
  """Returns the RGB pixels of a file, decoded by Pillow."""
  return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))


def some(count: int, seed: int = 0) -> list[bytes]:
  """Returns files whose sizes differ as ImageNet's do."""
  rng = np.random.default_rng(seed)
  files = []
  for i in range(count):
    height, width = rng.integers((300, 330), (427, 640)).tolist()
    files.append(encode(cut(seed + i, height, width)))
  return files
