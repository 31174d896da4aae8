"""Downloads of published files, verified by their checksums."""

import pathlib
import urllib.request

from tqdm import tqdm

from jaxmix.files.atomic import file_fingerprint, open_atomic


def fetch(url: str, checksum: str, target: pathlib.Path) -> pathlib.Path:
  """Downloads a file, unless `target` exists already, and verifies it.

  Args:
    url: of the file.
    checksum: `'md5:...'` or `'sha256:...'`, in hexadecimal.
    target: where the file goes. It appears there complete and verified.

  Returns:
    `target`.

  Raises:
    OSError: the download failed.
    ValueError: the file does not have the checksum.
  """
  if target.exists():
    _verify(target, url, checksum)
    return target
  target.parent.mkdir(parents=True, exist_ok=True)
  with open_atomic(target) as file:
    _download(url, file)
    file.flush()
    _verify(pathlib.Path(file.name), url, checksum)
  return target


def _download(url: str, file) -> None:
  with urllib.request.urlopen(url, timeout=60) as stream:
    size = int(stream.headers.get('Content-Length') or 0) or None
    with tqdm(desc=url, total=size, unit='B', unit_scale=True) as progress:
      while chunk := stream.read(1 << 20):
        file.write(chunk)
        progress.update(len(chunk))


def _verify(path: pathlib.Path, url: str, checksum: str) -> None:
  algorithm, _, expected = checksum.partition(':')
  actual = file_fingerprint(path, algorithm)
  if actual != expected:
    raise ValueError(
      f'{path} (from {url}) has the {algorithm} checksum {actual}, expected '
      f'{expected}: remove the file and download it again'
    )
