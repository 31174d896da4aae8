"""JPEG decoder: random resized crops and center crops of image files.

Draw and apply are two functions: `random_resized_crop` draws a crop, a pure
function of the seed, the epoch and the example; `read_crop` decodes and resizes
it.

Nearly all of the time is decoding, and most of that is entropy decoding, which
is sequential. So the crop is drawn from the size in the header, and only what
it needs is decoded: not the rows below it, and not the high frequencies if it
is at least twice as large as the output.
"""

import io
import math
import re
import threading
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image

# What torchvision's RandomResizedCrop and the ImageNet recipes use.
SCALE = (0.08, 1.0)  # fraction of the area
RATIO = (3 / 4, 4 / 3)  # width over height
_TRIES = 10

# Extra bytes after the last pixel that are not a sign of damage.
_PADDING = 16

# Many threads decode small images: OpenCV's own threads would only wait.
cv2.setNumThreads(0)


class Crop(NamedTuple):
  """A part of an image in pixels, and whether it is mirrored."""

  top: int
  left: int
  height: int
  width: int
  flip: bool


class Frame(NamedTuple):
  """The header of a JPEG file.

  Attributes:
    height: in pixels.
    width: in pixels.
    components: 1 grey, 3 colour, 4 CMYK.
    offset: of the two bytes of the height in the file.
    sequential: whether rows are stored from top to bottom, without restart
      markers.
  """

  height: int
  width: int
  components: int
  offset: int
  sequential: bool


def read_frame(data: bytes) -> Frame:
  """Reads the header of a JPEG file, no pixels.

  Raises:
    ValueError: it is not a JPEG file, or its header is damaged.
  """
  if data[:2] != b'\xff\xd8':
    raise ValueError(f'it is not a JPEG file: it begins with {data[:8]!r}')
  at, size, restarts = 2, None, False
  while at + 9 < len(data) and data[at] == 0xFF:
    marker = data[at + 1]
    if marker == 0xFF:  # padding
      at += 1
      continue
    if marker == 0xDA and size:  # start of scan
      frame_type, offset, height, width, components = size
      sequential = frame_type in (0xC0, 0xC1) and not restarts
      return Frame(height, width, components, offset, sequential)
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      height, width = data[at + 5] << 8 | data[at + 6], data[at + 7] << 8
      width |= data[at + 8]
      if height and width:
        size = marker, at + 5, height, width, data[at + 9]
    restarts |= marker == 0xDD
    at += 2 + (data[at + 2] << 8 | data[at + 3])
  raise ValueError('it is a JPEG file with a damaged header')


def random_resized_crop(
  seed: int, epoch: int, index: int, height: int, width: int, *, flip: bool
) -> Crop:
  """Draws a crop with the distribution of torchvision's RandomResizedCrop.

  The area is uniform over `SCALE` of the image, the logarithm of the aspect
  ratio over `RATIO`, the position over all where the crop fits. A crop that
  does not fit is drawn again, up to ten times; then it is the largest center
  crop within `RATIO`.

  Args:
    seed: of the run.
    epoch: another crop is drawn in each.
    index: of the example.
    height: of the image.
    width: of the image.
    flip: whether half of the crops are mirrored.

  >>> random_resized_crop(0, 3, 7, 375, 500, flip=True)
  Crop(top=60, left=105, height=199, width=216, flip=False)
  """
  seeds = np.random.SeedSequence(seed, spawn_key=(epoch, index))
  rng = np.random.Generator(np.random.Philox(seeds))
  # In one call, because each call of NumPy costs as much as all the numbers.
  mirror, top, left, *tries = rng.random(3 + 2 * _TRIES).tolist()
  flip = flip and mirror < 0.5
  low, high = (math.log(ratio) for ratio in RATIO)
  for u, v in zip(tries[::2], tries[1::2], strict=True):
    area = height * width * (SCALE[0] + u * (SCALE[1] - SCALE[0]))
    ratio = math.exp(low + v * (high - low))
    w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < w <= width and 0 < h <= height:
      break
  else:
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    return Crop((height - h) // 2, (width - w) // 2, h, w, flip)
  top, left = int(top * (height - h + 1)), int(left * (width - w + 1))
  return Crop(top, left, h, w, flip)


def read_crop(
  data: bytes, frame: Frame, crop: Crop, out: np.ndarray, *, whole: bool
) -> None:
  """Decodes a part of an image and resizes it into `out`.

  Args:
    data: the file.
    frame: its header.
    crop: the part.
    out: uint8 `[H, W, 3]`, contiguous; is filled with RGB.
    whole: whether to decode the rows below the crop too. It changes no pixel,
      but finds damage there; otherwise only a missing end is found.

  Raises:
    ValueError: the file is damaged.
  """
  bottom, right = crop.top + crop.height, crop.left + crop.width
  scale = min(crop.height / out.shape[0], crop.width / out.shape[1])
  rows = frame.height if whole else bottom
  image, factor = _decode(data, frame, rows, scale)
  image = image[
    crop.top // factor : -(-bottom // factor),
    crop.left // factor : -(-right // factor),
  ]
  if crop.flip:
    mirrored = _scratch('mirrored', out.shape)
    _resize(image, mirrored)
    cv2.flip(mirrored, 1, dst=out)
  else:
    _resize(image, out)


def center_crop(data: bytes, frame: Frame, out: np.ndarray) -> None:
  """Decodes the center crop of an image into `out`, for evaluation.

  The shorter side is resized to 8/7 of the output, 256 for 224, and the center
  is cropped.

  Args:
    data: the file.
    frame: its header.
    out: uint8 `[S, S, 3]`; is filled with RGB.

  Raises:
    ValueError: the file is damaged.
  """
  size, shorter = len(out), min(frame.height, frame.width)
  short = size * 8 // 7
  image, _ = _decode(data, frame, frame.height, shorter / short)
  height = short * frame.height // shorter
  width = short * frame.width // shorter
  resized = _scratch('resized', (height, width, 3))
  _resize(image, resized)
  top, left = round((height - size) / 2), round((width - size) / 2)
  out[:] = resized[top : top + size, left : left + size]


def _decode(
  data: bytes | bytearray, frame: Frame, rows: int, scale: float
) -> tuple[np.ndarray, int]:
  """Decodes the upper rows, downscaled by 2, 4 or 8 if `scale` allows.

  Returns:
    uint8 `[h, w, 3]`, valid until this thread decodes again, and the factor
    of the downscaling.
  """
  if frame.components == 4:  # CMYK, which libjpeg does not convert to RGB
    return _decode_slowly(data), 1
  factor = max(f for f in (1, 2, 4, 8) if f <= max(1, scale))
  # One row more, because colours are interpolated between rows.
  height = min(frame.height, (-(-rows // factor) + 1) * factor)
  if frame.sequential and height < frame.height:
    # With a smaller height in the header the decoder stops after it.
    data = bytearray(data)
    data[frame.offset : frame.offset + 2] = height.to_bytes(2)
  else:
    height = frame.height
  shape = (-(-height // factor), -(-frame.width // factor), 3)
  image = _scratch('decoded', shape)
  try:
    simplejpeg.decode_jpeg(
      data,
      'RGB',
      min_height=shape[0],
      min_width=shape[1],
      min_factor=factor,
      buffer=image,
    )
  except ValueError as error:
    if 'JFIF revision' in str(error):  # harmless, but may hide other errors
      return _decode_slowly(data), 1
    # The first error of libjpeg. All rows are decoded if it is about the bytes
    # after them: the rows that were not wanted, or a few bytes of padding. (A
    # decoder that lost synchronisation leaves, or lacks, many bytes.)
    left = re.search(r'(\d+) extraneous bytes before marker 0xd9', str(error))
    if not left or height == frame.height and int(left[1]) > _PADDING:
      raise
  return image, factor


def _decode_slowly(data: bytes | bytearray) -> np.ndarray:
  try:
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))
  except (OSError, SyntaxError) as error:
    raise ValueError(str(error)) from error


def _resize(image: np.ndarray, out: np.ndarray) -> None:
  """Resizes `[h, w, 3]` to `out`, close to Pillow's antialiased bilinear.

  Pillow's filter is a triangle as wide as the scale s, with variance s^2 / 6.
  Linear interpolation has variance 1 / 6 at any scale, so it is preceded by a
  blur with the difference: weights a, 1 - 2a, a of variance 2a. At a scale of 2
  that is the triangle itself. Several times as fast as averaging over areas.
  """
  scales = [a / b for a, b in zip(image.shape[:2], out.shape[:2], strict=True)]
  method = cv2.INTER_LINEAR
  if max(scales) > 2.2:  # too wide for three weights
    method = cv2.INTER_AREA
  elif max(scales) > 1.1:
    # OpenCV takes sigma, with exp(-1 / (2 sigma^2)) = a / (1 - 2a).
    weights = [(max(scale, 1.1) ** 2 - 1) / 12 for scale in scales]
    y, x = [math.sqrt(0.5 / math.log((1 - 2 * a) / a)) for a in weights]
    image = cv2.GaussianBlur(
      image,
      (3 if scales[1] > 1.1 else 1, 3 if scales[0] > 1.1 else 1),
      x,
      dst=_scratch('blurred', image.shape),
      sigmaY=y,
      borderType=cv2.BORDER_REPLICATE,
    )
  cv2.resize(image, out.shape[1::-1], dst=out, interpolation=method)


_scratches = threading.local()


def _scratch(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns a buffer of this thread: new pages would be as slow as a resize."""
  size = math.prod(shape)
  memory = getattr(_scratches, name, None)
  if memory is None or memory.size < size:
    memory = np.empty(size, np.uint8)
    setattr(_scratches, name, memory)
  return memory[:size].reshape(shape)
