"""Recordings as publishers pack them: WAV files of a folder or an archive."""

import hashlib
import io
import pathlib
import wave
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxmix.files import archives

_MAX_BYTES = 2**24  # of a file: minutes of audio


def read_wav(content: bytes, rate: int, label: str) -> np.ndarray:
  """Returns the samples of a WAV file: int16 `[T]`.

  Args:
    content: of the file.
    rate: required samples per second.
    label: name of the file for messages.

  Raises:
    ValueError: the file is damaged, or has not one channel of 16 bits at this
      rate.
  """
  try:
    with wave.open(io.BytesIO(content)) as file:
      channels, width, actual, count, *_ = file.getparams()
      samples = file.readframes(count)
  except (wave.Error, EOFError) as error:
    reason = str(error) or 'it ends too early'
    raise ValueError(
      f'{label} is not a WAV file of samples: {reason}'
    ) from error
  if (channels, width) != (1, 2):
    raise ValueError(
      f'{label} has {channels} channels of {8 * width} bits, expected one of 16'
    )
  if actual != rate:
    raise ValueError(
      f'{label} has {actual} samples per second, expected {rate}: it is not '
      "the publisher's file, or was resampled"
    )
  if not count or len(samples) != 2 * count:
    raise ValueError(
      f'{label} has {len(samples) // 2} samples, but its header declares '
      f'{count} (expected 1 or more)'
    )
  return np.frombuffer(samples, '<i2').astype(np.int16)


def one_second(samples: np.ndarray, rate: int) -> np.ndarray:
  """Returns the first second, padded with zeros if it is shorter.

  >>> one_second(np.array([3, 4], np.int16), 4)
  array([3, 4, 0, 0], dtype=int16)
  """
  cut = samples[:rate]
  return np.pad(cut, (0, rate - len(cut)))


def iter_recordings(
  source: pathlib.Path, matches: Callable[[str], Any], max_total: int
) -> Iterator[tuple[str, bytes]]:
  """Yields the matching files of a folder, a .tar.gz or a .zip.

  Names are the last two parts of a path, `folder/file`, or `file` alone at the
  top of an archive.

  Args:
    source: the folder, the folder around it, or the archive.
    matches: whether to read the file of a name.
    max_total: bytes that an archive may inflate to.

  Raises:
    FileNotFoundError, ValueError: see `archives.iter_files`.
  """

  def select(path: str) -> str | None:
    name = '/'.join(pathlib.PurePosixPath(path).parts[-2:])
    return name if matches(name) else None

  return archives.iter_files(
    source, select, max_total=max_total, max_bytes=_MAX_BYTES
  )


def files_fingerprint(fingerprints: dict[str, str]) -> str:
  """Returns one sha256 of the names and fingerprints of many files."""
  lines = ''.join(
    f'{name} {fingerprints[name]}\n' for name in sorted(fingerprints)
  )
  return hashlib.sha256(lines.encode()).hexdigest()
