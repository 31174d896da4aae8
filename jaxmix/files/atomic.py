"""Atomic files: written under another name, renamed when complete."""

import contextlib
import hashlib
import os
import pathlib
import secrets
from collections.abc import Iterator
from typing import BinaryIO


def file_fingerprint(path: pathlib.Path, algorithm: str = 'sha256') -> str:
  """Returns the hash of a file in hexadecimal.

  Args:
    path: a regular file.
    algorithm: a name that hashlib knows.

  Raises:
    FileNotFoundError: `path` is missing or is not a regular file (reading a
      pipe would never end).
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path} is missing or is not a regular file')
  with path.open('rb') as file:
    return hashlib.file_digest(file, algorithm).hexdigest()


@contextlib.contextmanager
def open_atomic(path: pathlib.Path) -> Iterator[BinaryIO]:
  """Opens a file for writing that appears at `path` when the block ends.

  If the block raises, no file appears. The temporary name is random, because
  machines that share a folder may have equal host names and process ids.
  """
  part = path.with_name(f'{path.name}.{secrets.token_hex(8)}')
  try:
    with part.open('wb') as file:
      yield file
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
  """Replaces a file durably: after a crash it is either the old or the new one.

  Raises:
    OSError: the file could not be written; the old one is unchanged.
  """
  part = path.with_name(path.name + '.part')
  try:
    # Unlinked first, so that a symbolic link of that name is not followed.
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
  """Flushes a file, or the entries of a folder, to the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
