"""Files of a data set by their names: in a folder, or in a zip archive of it.

Members of an archive are read, never extracted: names and links in it cannot
lead anywhere, and what it says it holds is bounded before it is inflated.
"""

import contextlib
import io
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

# Reads a file of at most so many bytes.
Read = Callable[[str, int], bytes]

_LIST = 2**25  # bytes of an archive's list of files, which is read at once
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextlib.contextmanager
def open_files(layout: Any, source: pathlib.Path, most: int) -> Iterator[Read]:
  """Opens the publisher's zip archive, the folder in it, or the one around.

  Args:
    layout: `url`, `variable` and `folder`, the only folder of the archive.
    source: its path.
    most: bytes that an archive may hold in all, inflated.

  Yields:
    `read(name, limit)`: the content of a file of `layout.folder`. It raises
    FileNotFoundError (of a folder) or ValueError where there is none, and
    ValueError for one that is damaged or has more than `limit` bytes.

  Raises:
    FileNotFoundError: there is no `source`.
    ValueError: it is no whole zip archive.
  """
  if source.is_dir():
    inner = source / layout.folder
    yield _read_folder(inner if inner.is_dir() else source)
    return
  if not source.is_file():
    raise FileNotFoundError(
      f'{source} (config.data.source or {layout.variable}) does not exist'
    )
  with _Stream(io.FileIO(source)) as stream:
    try:
      archive = zipfile.ZipFile(stream)
    # Of fields that cannot be: ValueError, and what struct raises.
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
      raise ValueError(
        f'{source} is not a whole zip archive ({error}): fetch {layout.url} '
        'again'
      ) from error
    yield _read_zip(layout, source, archive, most)


class _Stream(io.BufferedReader):
  """A file of which no more than a list of files is read at once."""

  def read(self, size: int | None = -1, /) -> bytes:
    if size is not None and size > _LIST:
      raise ValueError(f'its list of files is said to have {size} bytes')
    return super().read(size)


def _read_folder(folder: pathlib.Path) -> Read:
  def read(name: str, limit: int) -> bytes:
    path = folder / name
    if not path.is_file():
      raise FileNotFoundError(f'{path} does not exist')
    _check_size(path, path.stat().st_size, limit)
    return path.read_bytes()

  return read


def _read_zip(
  layout: Any, source: pathlib.Path, archive: zipfile.ZipFile, most: int
) -> Read:
  members = archive.infolist()
  total = sum(member.file_size for member in members)
  if total > most:
    raise ValueError(
      f'{source}: {total} bytes are packed in it, more than {most}: not '
      f'{layout.url}?'
    )
  found = {member.filename: member for member in members}
  if len(found) < len(members):
    raise ValueError(f'{source} holds two files of one name')

  def read(name: str, limit: int) -> bytes:
    member = found.get(f'{layout.folder}/{name}')
    if member is None:
      raise ValueError(
        f'{source} has no {layout.folder}/{name}: not {layout.url}?'
      )
    label = f'{source}: {member.filename}'
    _check_size(label, member.file_size, limit)
    if member.compress_type not in _METHODS or member.flag_bits & 1:
      raise ValueError(f'{label} is packed in a way that is not read')
    try:
      return archive.read(member)
    except (
      zipfile.BadZipFile,
      zlib.error,
      EOFError,
      OSError,
      ValueError,
      NotImplementedError,
      RuntimeError,
    ) as error:
      raise ValueError(
        f'{label} is damaged ({error}): fetch {layout.url} again'
      ) from error

  return read


def _check_size(path: Any, found: int, limit: int) -> None:
  if found > limit:
    raise ValueError(f'{path} has {found} bytes, expected at most {limit}')
