"""Photographs as JPEG, random crops of them, and pixels of one size.

As elsewhere, draw and apply are two functions: `draw_crop` says which part of a
photograph is seen, a pure function of the seed, the epoch and the example;
`read_crop` decodes and resizes that part.

Nearly all of the time goes into decoding, and most of that into entropy codes,
which have to be read one after the other. So the crop is drawn from the size in
the header, and what it does not need is left out: the rows below it, and, where
it is twice as large as wanted, the high frequencies.
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
SCALE = (0.08, 1.0)  # part of the area
RATIO = (3 / 4, 4 / 3)  # width over height
_TRIES = 10

# Bytes after the last pixel that are no sign of damage.
_FILLING = 16

# Images are small and threads many: OpenCV's own threads would only wait.
cv2.setNumThreads(0)


class Crop(NamedTuple):
  """A part of a photograph, in pixels, and whether it is mirrored."""

  top: int
  left: int
  height: int
  width: int
  flip: bool


class Frame(NamedTuple):
  """What the header of a JPEG says.

  Attributes:
    height: in pixels.
    width: in pixels.
    components: 1 grey, 3 colour, 4 CMYK.
    offset: where the two bytes of the height are.
    sequential: the rows are stored from top to bottom, without marks between
      them.
  """

  height: int
  width: int
  components: int
  offset: int
  sequential: bool


def read_frame(data: bytes) -> Frame:
  """Reads the header of a JPEG, no pixels.

  Raises:
    ValueError: there is none.
  """
  if data[:2] != b'\xff\xd8':
    raise ValueError(f'not a JPEG: it begins with {data[:8]!r}')
  at, size, restarts = 2, None, False
  while at + 9 < len(data) and data[at] == 0xFF:
    marker = data[at + 1]
    if marker == 0xFF:  # fills up
      at += 1
      continue
    if marker == 0xDA and size:  # the pixels begin
      kind, offset, height, width, components = size
      sequential = kind in (0xC0, 0xC1) and not restarts
      return Frame(height, width, components, offset, sequential)
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      height, width = data[at + 5] << 8 | data[at + 6], data[at + 7] << 8
      width |= data[at + 8]
      if height and width:
        size = marker, at + 5, height, width, data[at + 9]
    restarts |= marker == 0xDD
    at += 2 + (data[at + 2] << 8 | data[at + 3])
  raise ValueError('a JPEG whose header is broken')


def random_resized_crop(
  seed: int, epoch: int, index: int, height: int, width: int, *, flip: bool
) -> Crop:
  """Draws what is seen of a photograph: the law of RandomResizedCrop.

  The area is uniform over `SCALE` of the whole, the logarithm of the ratio over
  `RATIO`, the place over all where it fits. What does not fit is drawn again,
  ten times; then it is the largest crop in the middle.

  Args:
    seed: of the run.
    epoch: the visit.
    index: of the example.
    height: of the photograph.
    width: of the photograph.
    flip: whether half of the crops are mirrored.

  >>> draw_crop(0, 3, 7, 375, 500, flip=True)
  Crop(top=60, left=105, height=199, width=216, flip=False)
  """
  seeds = np.random.SeedSequence(seed, spawn_key=(epoch, index))
  rng = np.random.Generator(np.random.Philox(seeds))
  # All at once: each call of numpy costs as much as all of the numbers.
  mirror, top, left, *tries = rng.random(3 + 2 * _TRIES).tolist()
  flip = flip and mirror < 0.5
  low, high = (math.log(ratio) for ratio in RATIO)
  for part, tilt in zip(tries[::2], tries[1::2], strict=True):
    area = height * width * (SCALE[0] + part * (SCALE[1] - SCALE[0]))
    ratio = math.exp(low + tilt * (high - low))
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
  """Decodes a part of a photograph and resizes it into `out`.

  Args:
    data: the file.
    frame: its header.
    crop: the part.
    out: uint8 `[H, W, 3]`, contiguous; is filled with RGB.
    whole: decodes what is below the crop too. It changes no pixel, but damage
      there is found; without, only that the end is missing.

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
  """Decodes the middle of a photograph into `out`, as it is evaluated.

  The shorter side becomes 8/7 of the output's, 256 for 224; then the middle is
  cut out.

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
  """Decodes the upper rows, smaller by 2, 4 or 8 if `scale` allows.

  Returns:
    uint8 `[h, w, 3]`, valid until this thread decodes again, and the factor
    by which it is smaller.
  """
  if frame.components == 4:  # CMYK, of which libjpeg makes no RGB
    return _decode_slowly(data), 1
  factor = max(f for f in (1, 2, 4, 8) if f <= max(1, scale))
  # One more: colours are interpolated between rows.
  height = min(frame.height, (-(-rows // factor) + 1) * factor)
  if frame.sequential and height < frame.height:
    # A decoder that is told of fewer rows stops after them.
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
    if 'JFIF revision' in str(error):  # harmless, but may hide what is not
      return _decode_slowly(data), 1
    # libjpeg's first complaint. All rows are there if it is about what is left
    # after them: the rows not wanted, or a few bytes that fill up. (A decoder
    # that lost its way leaves, or lacks, many.)
    left = re.search(r'(\d+) extraneous bytes before marker 0xd9', str(error))
    if not left or height == frame.height and int(left[1]) > _FILLING:
      raise
  return image, factor


def _decode_slowly(data: bytes | bytearray) -> np.ndarray:
  try:
    return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))
  except (OSError, SyntaxError) as error:
    raise ValueError(str(error)) from error


def _resize(image: np.ndarray, out: np.ndarray) -> None:
  """Resizes `[h, w, 3]` to fill `out`, nearly as Pillow's antialiased bilinear.

  Its filter is a triangle as wide as the scale s, whose variance is s^2 / 6.
  Linear interpolation has 1 / 6 whatever the scale, so it follows a blur with
  the rest: weights a, 1 - 2a, a of variance 2a. At a scale of 2 that is the
  triangle itself. Several times as fast as averaging over areas.
  """
  scales = [a / b for a, b in zip(image.shape[:2], out.shape[:2], strict=True)]
  method = cv2.INTER_LINEAR
  if max(scales) > 2.2:  # too wide for three weights
    method = cv2.INTER_AREA
  elif max(scales) > 1.1:
    # OpenCV wants sigma, where exp(-1 / (2 sigma^2)) = a / (1 - 2a).
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
  """Memory of this thread, used again: fresh pages cost as much as a resize."""
  size = math.prod(shape)
  memory = getattr(_scratches, name, None)
  if memory is None or memory.size < size:
    memory = np.empty(size, np.uint8)
    setattr(_scratches, name, memory)
  return memory[:size].reshape(shape)
