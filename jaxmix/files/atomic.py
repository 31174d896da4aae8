"""Files that are on disk whole, or not at all."""

import os
import pathlib


def write_text(path: pathlib.Path, text: str) -> None:
  """Replaces a file: readers, and who comes after a crash, see old or new.

  Raises:
    OSError: it could not be written; the old file is as it was.
  """
  part = path.with_name(path.name + '.part')
  try:
    # A link of that name, in a folder from somebody else, is not followed.
    part.unlink(missing_ok=True)
    with part.open('x') as file:
      file.write(text)
    sync(part)
    part.replace(path)
  except OSError:
    part.unlink(missing_ok=True)
    raise
  sync(path.parent)


def sync(path: pathlib.Path) -> None:
  """Has a file, or the names in a folder, reach the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
