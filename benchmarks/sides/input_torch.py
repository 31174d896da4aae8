"""Torch sides of `input_pipeline`: torchvision and a DataLoader.

Needs only torch, torchvision and Pillow, not jax.
"""

import io
from typing import Any

from benchmarks.sides import jpeg_images


class JpegImages:
  """A map-style dataset: JPEG files in memory and a transform."""

  def __init__(self, files: list[bytes], transform: Any):
    self.files, self.transform = files, transform

  def __len__(self) -> int:
    return len(self.files)

  def __getitem__(self, index: int) -> Any:
    return self.transform(self.files[index]), index % 1000


def transform(kind: str) -> Any:
  """Returns a transform from a JPEG file to a training image.

  Args:
    kind: 'float': Pillow, RandomResizedCrop, flip, ToTensor, as in the
      reference recipe of ImageNet; 'uint8': the same with transforms.v2, kept
      as uint8; 'tensor': decoded by torchvision, without a Pillow image.
  """
  import torch  # pyright: ignore[reportMissingImports]
  import torchvision  # pyright: ignore[reportMissingImports]
  from PIL import Image
  from torchvision.transforms import v2  # pyright: ignore[reportMissingImports]

  def open_image(data: bytes) -> Any:
    return Image.open(io.BytesIO(data)).convert('RGB')

  def open_tensor(data: bytes) -> Any:
    file = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return torchvision.io.decode_jpeg(
      file, mode=torchvision.io.ImageReadMode.RGB
    )

  v1 = torchvision.transforms
  crop = [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip()]
  steps = {
    'float': [
      open_image,
      v1.RandomResizedCrop(224),
      v1.RandomHorizontalFlip(),
      v1.ToTensor(),
    ],
    'uint8': [open_image, *crop, v2.PILToTensor()],
    'tensor': [open_tensor, *crop],
  }[kind]
  return v1.Compose(steps)


def loader(
  folder: str, workers: int, batch_size: int, epochs: int, kind: str
) -> Any:
  """Makes a side whose call reads all files `epochs` times."""
  import torch  # pyright: ignore[reportMissingImports]
  import torchvision  # pyright: ignore[reportMissingImports]

  files = jpeg_images.read(folder)
  images: Any = JpegImages(files * epochs, transform(kind))
  data = torch.utils.data.DataLoader(
    images,
    batch_size=batch_size,
    shuffle=True,
    num_workers=workers,
    persistent_workers=True,
    drop_last=True,
  )

  def call():
    for batch, labels in data:
      assert len(batch) == len(labels) == batch_size

  version = f'({torchvision.__version__}, torch {torch.__version__})'
  return call, {'images': len(data) * batch_size, 'version': version}


def decoder(folder: str) -> Any:
  """Makes a side whose call decodes every file completely, on one thread."""
  import torch  # pyright: ignore[reportMissingImports]
  import torchvision  # pyright: ignore[reportMissingImports]

  torch.set_num_threads(1)
  files = [
    torch.frombuffer(bytearray(data), dtype=torch.uint8)
    for data in jpeg_images.read(folder)
  ]

  def call():
    for data in files:
      torchvision.io.decode_jpeg(data, mode=torchvision.io.ImageReadMode.RGB)

  return call, {'images': len(files), 'version': torchvision.__version__}
