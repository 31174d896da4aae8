"""Pictures in a folder or in a tar file, found by the names in captions.

Archives come from strangers: nothing is unpacked to disk, no member is read
beyond `MAX_BYTES`, and a picture of more than `MAX_PIXELS` is refused before it
is decoded (Pillow's bound on decompression bombs).
"""

import io
import os
import pathlib
import tarfile
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image, ImageOps
from tqdm import tqdm

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 89_478_485
# Not all that Pillow has: EPS, for one, runs another program.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM')
SUFFIXES = {
  *('.jpg', '.jpeg', '.png', '.webp', '.gif', '.bmp', '.tif', '.tiff'),
  *('.ppm', '.pgm'),
}


class File(NamedTuple):
  """A picture's bytes: `size` of them from `offset` in `path`."""

  path: pathlib.Path
  offset: int
  size: int


def list_images(source: str | os.PathLike[str]) -> dict[str, File]:
  """Finds the pictures in a folder and those below, or in a tar file.

  Args:
    source: the folder, or an uncompressed tar file (a compressed one cannot be
      read in any order).

  Returns:
    By name: the path within the folder or the tar file, with `/`.

  Raises:
    FileNotFoundError: there is nothing at `source`.
    ValueError: it is a file but no tar file, or one cut short.
  """
  source = pathlib.Path(source).expanduser()
  bar = tqdm(desc=f'listing {source.name}', unit=' files', delay=5)
  with bar:
    if source.is_dir():
      found = {}
      for folder, _, names in os.walk(source):
        for name in names:
          path = pathlib.Path(folder, name)
          if path.suffix.lower() in SUFFIXES:
            relative = path.relative_to(source).as_posix()
            found[relative] = File(path, 0, path.stat().st_size)
          bar.update()
      return found
    if not source.exists():
      raise FileNotFoundError(f'{source}: no such folder or tar file')
    try:
      with tarfile.open(source, 'r:') as tar:
        found = {}
        for member in tar:
          plain = member.isreg() and not member.issparse()
          suffix = pathlib.PurePosixPath(member.name).suffix.lower()
          if plain and suffix in SUFFIXES:
            name = member.name.removeprefix('./')
            found[name] = File(source, member.offset_data, member.size)
          bar.update()
        # The end of a tar file that was cut looks like any other.
        last = max((f.offset + f.size for f in found.values()), default=0)
    except tarfile.TarError as error:
      raise ValueError(
        f'{source} is neither a folder nor an uncompressed tar file ({error}); '
        'unpack it, or its compression'
      ) from error
  if last > source.stat().st_size:
    raise ValueError(f'{source} is cut short: get it again')
  return found


def match(names: Sequence[str], listed: dict[str, File]) -> list[File | None]:
  """Finds the file of each name.

  By its whole path, else by its last part, else by that without the suffix: the
  tar file of a data set may have a folder around it, or other formats.

  Args:
    names: of the pictures, as captions have them.
    listed: what `list_images` found.

  Returns:
    The file of each, or None.

  Raises:
    ValueError: two files fit one name.

  >>> listed = {'val/1.webp': File(pathlib.Path('a.tar'), 0, 9)}
  >>> [file is not None for file in match(['1.jpg', '2.jpg'], listed)]
  [True, False]
  """
  loose: dict[str, list[str]] = {}
  for path in listed:
    base = path.rpartition('/')[2]
    for key in {base, _stem(base)}:
      loose.setdefault(key, []).append(path)
  files = []
  for name in names:
    base = name.rpartition('/')[2]
    fits = [name] if name in listed else []
    fits = fits or loose.get(base) or loose.get(_stem(base)) or []
    if len(fits) > 1:
      raise ValueError(
        f'image {name!r} could be {fits[0]!r} or {fits[1]!r}: write the path '
        'in the captions, or give a narrower folder'
      )
    files.append(listed[fits[0]] if fits else None)
  return files


def _stem(base: str) -> str:
  stem, dot, suffix = base.rpartition('.')
  return stem if dot and f'.{suffix.lower()}' in SUFFIXES else base


def read_image(file: File) -> Any:
  """Reads and decodes a picture: PIL, RGB, upright.

  Raises:
    ValueError: it is damaged, too large, or no picture. Says which.
    OSError: the file cannot be read; what is in it may be fine.
  """
  if file.size > MAX_BYTES:
    raise ValueError(f'{file.size} bytes, more than {MAX_BYTES}')
  with file.path.open('rb') as opened:
    opened.seek(file.offset)
    data = opened.read(file.size)
  try:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
      if image.width * image.height > MAX_PIXELS:
        raise ValueError(f'{image.width} x {image.height} pixels are too many')
      return ImageOps.exif_transpose(image).convert('RGB')
  # Pillow's readers raise all kinds of errors at damaged files.
  except Exception as error:
    raise ValueError(f'{type(error).__name__}: {error}') from error
