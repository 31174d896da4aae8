"""Recordings as publishers pack them: WAV files of a folder or an archive."""

import gzip
import hashlib
import io
import pathlib
import tarfile
import wave
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxmix.classification.datasets import inputs

_MOST = 2**24  # bytes of a file: minutes of sound


def read_wav(content: bytes, rate: int, place: str) -> np.ndarray:
  """Reads a WAV file: int16 `[T]`.

  Args:
    content: of the file.
    rate: samples a second that it must have.
    place: of the file, for messages.

  Raises:
    ValueError: it is none, is cut short, or is not one channel of 16 bits at
      this rate.
  """
  try:
    with wave.open(io.BytesIO(content)) as file:
      channels, width, found, count, *_ = file.getparams()
      samples = file.readframes(count)
  except (wave.Error, EOFError) as error:
    why = str(error) or 'it ends too early'
    raise ValueError(f'{place} is no WAV file of samples: {why}') from error
  if (channels, width) != (1, 2):
    raise ValueError(
      f'{place} has {channels} channels of {8 * width} bits, expected one of 16'
    )
  if found != rate:
    raise ValueError(
      f'{place} has {found} samples a second, expected {rate}: it is not the '
      "publisher's, or was resampled"
    )
  if not count or len(samples) != 2 * count:
    raise ValueError(
      f'{place} has {len(samples) // 2} samples of {count} (of 1 or more)'
    )
  return np.frombuffer(samples, '<i2').astype(np.int16)


def one_second(samples: np.ndarray, rate: int) -> np.ndarray:
  """The first second; zeros at the end of what is shorter.

  >>> one_second(np.array([3, 4], np.int16), 4)
  array([3, 4, 0, 0], dtype=int16)
  """
  cut = samples[:rate]
  return np.pad(cut, (0, rate - len(cut)))


def read_files(
  source: pathlib.Path, wanted: Callable[[str], bool], limit: int
) -> Iterator[tuple[str, bytes]]:
  """Yields the wanted files of a folder, a .tar.gz or a .zip.

  Files are called by the last two parts of their path, `folder/file`, or by
  `file` alone at the top of an archive. Nothing is unpacked.

  Args:
    source: the folder, the one above it, or the archive.
    wanted: says of a name whether it is read.
    limit: bytes of all files of an archive.

  Raises:
    FileNotFoundError: `source` does not exist.
    ValueError: it is no whole archive, or a file is no plain one, is larger
      than any recording, or is there twice.
  """
  seen = set()
  if source.is_dir():
    files = _in_folder(source, wanted)
  elif not source.is_file():
    raise FileNotFoundError(f'{source} (config.data.source) does not exist')
  else:
    zipped = zipfile.is_zipfile(source)
    files = (_in_zip if zipped else _in_tar)(source, wanted, limit)
  try:
    for name, content in files:
      if name in seen:
        raise ValueError(f'{source} has {name} twice')
      seen.add(name)
      yield name, content
  except (
    *(tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error),
    *(OverflowError, NotImplementedError, RuntimeError),
  ) as error:
    raise ValueError(
      f'{source} is no whole .tar.gz or .zip archive: {error}'
    ) from error
  except OSError as error:
    if isinstance(error, FileNotFoundError):
      raise
    raise ValueError(f'{source} cannot be read: {error}') from error


def _short(path: str) -> str:
  return '/'.join(pathlib.PurePosixPath(path).parts[-2:])


def _check_size(place: str, size: int) -> None:
  if not 0 < size <= _MOST:
    raise ValueError(f'{place} has {size} bytes, expected 1 to {_MOST}')


def _in_folder(folder: pathlib.Path, wanted: Any) -> Iterator[Any]:
  for path in sorted(folder.absolute().rglob('*')):
    if wanted(name := _short(str(path))):
      if not path.is_file():
        raise ValueError(f'{path} is no plain file')
      _check_size(str(path), path.stat().st_size)
      yield name, path.read_bytes()


def _in_zip(path: pathlib.Path, wanted: Any, limit: int) -> Iterator[Any]:
  with zipfile.ZipFile(path) as archive:
    members = [x for x in archive.infolist() if wanted(_short(x.filename))]
    if sum(member.file_size for member in members) > limit:
      raise ValueError(f'{path}: more than {limit} bytes are packed in it')
    for member in members:
      place = f'{path}: {member.filename}'
      _check_size(place, member.file_size)
      with archive.open(member) as stream:
        yield _short(member.filename), stream.read(member.file_size)


def _in_tar(path: pathlib.Path, wanted: Any, limit: int) -> Iterator[Any]:
  with path.open('rb') as file:
    packed = file.read(2) == b'\x1f\x8b'
  with gzip.open(path) if packed else path.open('rb') as inflated:
    stream: Any = inputs.Bounded(inflated, limit, str(path))
    with tarfile.open(
      fileobj=stream, mode='r|', tarinfo=inputs.SmallHeader
    ) as archive:
      for member in archive:
        if not wanted(name := _short(member.name)):
          continue
        place = f'{path}: {member.name}'
        if not member.isreg():
          raise ValueError(f'{place} is no plain file')
        _check_size(place, member.size)
        extracted = archive.extractfile(member)
        assert extracted is not None
        content = extracted.read()
        if len(content) != member.size:
          raise ValueError(f'{place} is cut short')
        yield name, content
    # gzip checks its sums at the end of the stream, past the last member.
    while stream.read(1 << 20):
      pass


def sums_digest(sums: dict[str, str]) -> str:
  """One sha256 of the names and the sha256 of many files."""
  lines = ''.join(f'{name} {sums[name]}\n' for name in sorted(sums))
  return hashlib.sha256(lines.encode()).hexdigest()
