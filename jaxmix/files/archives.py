"""Readers for members of folders, zip archives and tar archives.

Members are read and never extracted, so that names and links in an archive
cannot lead anywhere. The sizes that an archive declares are bounded before
anything is decompressed.
"""

import contextlib
import gzip
import io
import os
import pathlib
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

# Reads the file of a name, of at most so many bytes.
ReadFile = Callable[[str, int], bytes]

_DIRECTORY = 2**25  # bytes of a zip archive's central directory
_HEADER = 2**20  # bytes of a tar header
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile, tarfile, gzip and zlib raise for damaged or encrypted archives.
# ValueError and OverflowError: impossible numbers in headers.
_DAMAGE = (
  *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error),
  *(EOFError, OverflowError, NotImplementedError, RuntimeError),
)


def find_folder(source: pathlib.Path, folder: str) -> pathlib.Path:
  """Returns `source/folder` if it exists, else `source`.

  So a user may name the folder of a data set or the folder around it.
  """
  inner = source / folder
  return inner if inner.is_dir() else source


def read_file(path: pathlib.Path, max_bytes: int) -> bytes:
  """Reads a regular file of at most `max_bytes` bytes.

  Raises:
    FileNotFoundError: the file is missing or not a regular file.
    ValueError: it is larger.
  """
  if not path.is_file():
    raise FileNotFoundError(f'{path} is missing or is not a regular file')
  _check_size(path, path.stat().st_size, max_bytes)
  return path.read_bytes()


@contextlib.contextmanager
def open_files(
  source: pathlib.Path, folder: str, max_total: int
) -> Iterator[ReadFile]:
  """Opens a folder or a zip archive of it for reading files by name.

  Args:
    source: the archive, the folder, or the folder around that one.
    folder: name of the only top-level folder of the archive.
    max_total: bytes that the archive may inflate to.

  Yields:
    `read(name, max_bytes)`: the content of the file `name` in the folder. It
    raises FileNotFoundError (folder) or ValueError (archive) for a missing
    file, and ValueError for one that is damaged or larger.

  Raises:
    FileNotFoundError: `source` does not exist.
    ValueError: it is not a complete zip archive.
  """
  if source.is_dir():
    root = find_folder(source, folder)
    yield lambda name, max_bytes: read_file(root / name, max_bytes)
    return
  _check_exists(source)
  with _open_zip(source) as archive:
    yield _zip_reader(source, folder, archive, max_total)


@contextlib.contextmanager
def _open_zip(path: pathlib.Path) -> Iterator[zipfile.ZipFile]:
  with _BoundedFile(io.FileIO(path)) as stream:
    try:
      archive = zipfile.ZipFile(stream)
    except (*_DAMAGE, OSError, ValueError) as error:
      raise _damaged(path, 'zip', error) from error
    yield archive


class _BoundedFile(io.BufferedReader):
  """A file that refuses to read more than a central directory at once."""

  def read(self, size: int | None = -1, /) -> bytes:
    if size is not None and size > _DIRECTORY:
      raise ValueError(f'its central directory declares {size} bytes')
    return super().read(size)


def _zip_reader(
  source: pathlib.Path, folder: str, archive: zipfile.ZipFile, max_total: int
) -> ReadFile:
  members = {member.filename: member for member in archive.infolist()}
  if len(members) < len(archive.infolist()):
    raise ValueError(f'{source} has two files of the same name')
  _check_total(source, sum(x.file_size for x in members.values()), max_total)

  def read(name: str, max_bytes: int) -> bytes:
    member = members.get(f'{folder}/{name}')
    if member is None:
      raise ValueError(f'{source} has no file {folder}/{name}')
    return _read_zip_member(source, archive, member, max_bytes)

  return read


def _read_zip_member(
  source: pathlib.Path,
  archive: zipfile.ZipFile,
  member: zipfile.ZipInfo,
  max_bytes: int,
) -> bytes:
  label = f'{source}: {member.filename}'
  _check_size(label, member.file_size, max_bytes)
  if member.compress_type not in _METHODS or member.flag_bits & 1:
    raise ValueError(f'{label} is encrypted or compressed in an unknown way')
  try:
    return archive.read(member)
  except (*_DAMAGE, OSError, ValueError) as error:
    raise ValueError(
      f'{label} is damaged ({error}): download the archive again'
    ) from error


def iter_files(
  source: pathlib.Path,
  select: Callable[[str], str | None],
  *,
  max_total: int,
  max_bytes: int,
) -> Iterator[tuple[str, bytes]]:
  """Yields selected files of a folder, a zip archive or a tar archive.

  Args:
    source: the folder or archive; a tar archive may be gzip-compressed.
    select: maps the path of a file, absolute in a folder, to the name to
      yield; None skips the file.
    max_total: bytes that an archive may inflate to.
    max_bytes: bytes of a selected file.

  Raises:
    FileNotFoundError: `source` does not exist.
    ValueError: it is not a complete archive, or a selected file is not a
      regular file, is empty or too large, or occurs twice.
  """
  if source.is_dir():
    files = _iter_folder(source, select)
  else:
    _check_exists(source)
    iterate = _iter_zip if zipfile.is_zipfile(source) else _iter_tar
    files = iterate(source, select, max_total)
  names = set()
  try:
    for name, label, size, read in files:
      if name in names:
        raise ValueError(f'{source} has {name} twice')
      names.add(name)
      if not size:
        raise ValueError(f'{label} is empty')
      _check_size(label, size, max_bytes)
      content = read()
      if len(content) != size:
        raise ValueError(f'{label} has {len(content)} bytes of {size}')
      yield name, content
  except (*_DAMAGE, OSError) as error:
    if source.is_dir():
      raise
    raise _damaged(source, 'zip or tar', error) from error


def _iter_folder(folder: pathlib.Path, select: Any) -> Iterator[Any]:
  for path in sorted(folder.absolute().rglob('*')):
    if (name := select(path.as_posix())) is not None:
      if not path.is_file():
        raise ValueError(f'{path} is not a regular file')
      yield name, path, path.stat().st_size, path.read_bytes


def _iter_zip(path: pathlib.Path, select: Any, max_total: int) -> Iterator[Any]:
  with _open_zip(path) as archive:
    members = [(select(x.filename), x) for x in archive.infolist()]
    members = [(name, x) for name, x in members if name is not None]
    _check_total(path, sum(x.file_size for _, x in members), max_total)
    for name, member in members:
      size = member.file_size

      def read(member=member, size=size):
        return _read_zip_member(path, archive, member, size)

      yield name, f'{path}: {member.filename}', size, read


def _iter_tar(path: pathlib.Path, select: Any, max_total: int) -> Iterator[Any]:
  with path.open('rb') as file:
    compressed = file.read(2) == b'\x1f\x8b'
  with gzip.open(path) if compressed else path.open('rb') as file:
    stream: Any = _BoundedStream(file, max_total, path)
    with tarfile.open(fileobj=stream, mode='r|', tarinfo=_TarInfo) as archive:
      for member in archive:
        if (name := select(member.name)) is None:
          continue
        label = f'{path}: {member.name}'
        if not member.isreg():
          raise ValueError(f'{label} is not a regular file')
        extracted: Any = archive.extractfile(member)
        yield name, label, member.size, extracted.read
    # gzip verifies its checksum at the end of the stream, past the last member.
    while stream.read(1 << 20):
      pass


class _BoundedStream:
  """A stream that raises ValueError after so many bytes.

  A small compressed file can inflate to any size.
  """

  def __init__(self, stream: Any, max_total: int, path: pathlib.Path):
    self._stream, self._path = stream, path
    self._max_total, self._left = max_total, max_total

  def read(self, size: int) -> bytes:
    content = self._stream.read(min(size, self._left + 1))
    self._left -= len(content)
    if self._left < 0:
      _check_total(self._path, self._max_total + 1, self._max_total)
    return content


class _TarInfo(tarfile.TarInfo):
  """A tar member whose header is bounded.

  tarfile reads long names and comments of any size into memory.
  """

  @classmethod
  def frombuf(cls, buf: Any, encoding: str, errors: str) -> '_TarInfo':
    member = super().frombuf(buf, encoding, errors)
    data = (*tarfile.REGULAR_TYPES, tarfile.GNUTYPE_SPARSE)
    if member.type not in data and member.size > _HEADER:
      raise tarfile.ReadError(f'a header has {member.size} bytes')
    return member


def index_tar(
  stream: Any, label: str, start: int = 0, size: int | None = None
) -> Iterator[tuple[str, int, int]]:
  """Lists the files of an uncompressed tar archive by reading its headers.

  Args:
    stream: the opened file.
    label: name of the archive for messages.
    start: offset of the archive in the stream; it may be a member of another.
    size: bytes of the archive; None for all of the stream.

  Yields:
    Name, offset in the stream and size of each file, in order.

  Raises:
    ValueError: it is not a complete tar archive, or has links or the like.
  """
  if size is None:
    size = os.fstat(stream.fileno()).st_size
  part: Any = _Slice(stream, start, size)
  try:
    with tarfile.open(fileobj=part, mode='r:', tarinfo=_TarInfo) as archive:
      for member in archive:
        if member.isdir():
          continue
        regular = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
        if not regular or member.issparse():
          raise ValueError(f'{member.name!r} is not a regular file')
        if not 0 <= member.size <= size - member.offset_data:
          raise ValueError(f'{member.name!r} extends past the end')
        yield (
          member.name.removeprefix('./'),
          start + member.offset_data,
          member.size,
        )
  except (*_DAMAGE, ValueError) as error:
    raise _damaged(label, 'tar', error) from error


class _Slice:
  """The part of a file that an inner tar archive occupies."""

  def __init__(self, stream: Any, start: int, size: int):
    self._stream, self._start, self._size, self._at = stream, start, size, 0

  def tell(self) -> int:
    return self._at

  def seek(self, at: int) -> int:
    self._at = at
    return at

  def read(self, size: int) -> bytes:
    self._stream.seek(self._start + self._at)
    content = self._stream.read(max(0, min(size, self._size - self._at)))
    self._at += len(content)
    return content


def _check_exists(source: pathlib.Path) -> None:
  if not source.is_file():
    raise FileNotFoundError(
      f'{source} does not exist or is not a file or folder'
    )


def _check_size(label: Any, size: int, max_bytes: int) -> None:
  if size > max_bytes:
    raise ValueError(f'{label} has {size} bytes, expected at most {max_bytes}')


def _check_total(source: pathlib.Path, total: int, max_total: int) -> None:
  if total > max_total:
    raise ValueError(
      f'{source} would inflate to {total} bytes or more, expected at most '
      f'{max_total}: is it another archive?'
    )


def _damaged(source: Any, kind: str, error: Exception) -> ValueError:
  return ValueError(
    f'{source} is not a complete {kind} archive ({error}): download it again'
  )
