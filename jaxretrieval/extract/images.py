"""Image files in a folder or a tar file, matched by the names in captions.

Archives are untrusted: nothing is unpacked to disk, no member above `MAX_BYTES`
is read, and an image of more than `MAX_PIXELS` is refused before it is decoded
(Pillow's limit for decompression bombs).
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
# A subset of what Pillow reads: EPS, for example, runs an external program.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM')
SUFFIXES = {
  *('.jpg', '.jpeg', '.png', '.webp', '.gif', '.bmp', '.tif', '.tiff'),
  *('.ppm', '.pgm'),
}


class File(NamedTuple):
  """The bytes of an image: `size` bytes from `offset` in `path`."""

  path: pathlib.Path
  offset: int
  size: int


def list_images(source: str | os.PathLike[str]) -> dict[str, File]:
  """Lists the images in a folder, recursively, or in a tar file.

  Args:
    source: the folder, or an uncompressed tar file (a compressed one has no
      random access).

  Returns:
    Files by name, the path within the folder or the tar file, with `/`.

  Raises:
    FileNotFoundError: `source` is missing.
    ValueError: it is a file but not a tar file, or is truncated.
  """
  source = pathlib.Path(source).expanduser()
  bar = tqdm(desc=f'listing {source.name}', unit=' files', delay=5)
  with bar:
    if source.is_dir():
      files = {}
      for folder, _, names in os.walk(source):
        for name in names:
          path = pathlib.Path(folder, name)
          if path.suffix.lower() in SUFFIXES:
            relative = path.relative_to(source).as_posix()
            files[relative] = File(path, 0, path.stat().st_size)
          bar.update()
      return files
    if not source.exists():
      raise FileNotFoundError(f'folder or tar file {source} is missing')
    try:
      with tarfile.open(source, 'r:') as tar:
        files = {}
        for member in tar:
          plain = member.isreg() and not member.issparse()
          suffix = pathlib.PurePosixPath(member.name).suffix.lower()
          if plain and suffix in SUFFIXES:
            name = member.name.removeprefix('./')
            files[name] = File(source, member.offset_data, member.size)
          bar.update()
        # tarfile does not report that the last member is truncated.
        last = max((f.offset + f.size for f in files.values()), default=0)
    except tarfile.TarError as error:
      raise ValueError(
        f'{source} is neither a folder nor an uncompressed tar file ({error}): '
        'decompress or unpack it'
      ) from error
  if last > source.stat().st_size:
    raise ValueError(f'{source} is truncated: download it again')
  return files


def match(names: Sequence[str], listed: dict[str, File]) -> list[File | None]:
  """Returns the file of each name, None for a missing one.

  Names are matched by the whole path, else by the file name, else by the file
  name without suffix: the tar file of a data set may have another top folder or
  image format.

  Args:
    names: names of images, as in captions.
    listed: result of `list_images`.

  Raises:
    ValueError: two files match one name.

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
    matches = [name] if name in listed else []
    matches = matches or loose.get(base) or loose.get(_stem(base)) or []
    if len(matches) > 1:
      raise ValueError(
        f'image {name!r} matches both {matches[0]!r} and {matches[1]!r}: write '
        'the path in the captions, or give a narrower folder'
      )
    files.append(listed[matches[0]] if matches else None)
  return files


def _stem(base: str) -> str:
  stem, dot, suffix = base.rpartition('.')
  return stem if dot and f'.{suffix.lower()}' in SUFFIXES else base


def read_image(file: File) -> Any:
  """Reads an image as PIL RGB, rotated according to its EXIF data.

  Raises:
    ValueError: the image is damaged, too large, or has an unknown format.
    OSError: the file cannot be read, so that nothing is known of the image.
  """
  if file.size > MAX_BYTES:
    raise ValueError(
      f'it has {file.size} bytes, but {MAX_BYTES} are the maximum'
    )
  with file.path.open('rb') as opened:
    opened.seek(file.offset)
    data = opened.read(file.size)
  try:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
      if image.width * image.height > MAX_PIXELS:
        raise ValueError(
          f'it has {image.width} x {image.height} pixels, but {MAX_PIXELS} are '
          'the maximum'
        )
      return ImageOps.exif_transpose(image).convert('RGB')
  # Pillow raises many types of errors for damaged files.
  except Exception as error:
    raise ValueError(f'{type(error).__name__}: {error}') from error
