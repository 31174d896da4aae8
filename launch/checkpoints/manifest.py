"""Manifest of a checkpoint: the sha256 of every file, array and of itself.

`manifest.json` is stored beside the files of a checkpoint and is written last.
Checking the files needs neither a device nor orbax.
"""

import errno
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tqdm import tqdm

from jaxmix.files.atomic import sync

NAME = 'manifest.json'
# Errors of a damaged file or folder. Others may be temporary, such as a disk
# that is not mounted.
_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EIO, errno.ELOOP)
_CHUNK = 1 << 22


def steps(folder: pathlib.Path) -> list[int]:
  """Returns the steps that have a checkpoint in `folder`, ascending."""
  if not folder.is_dir():
    return []
  return sorted(
    int(path.name)
    for path in folder.iterdir()
    if path.name.isdecimal()
    and path.name == str(int(path.name))
    and path.is_dir()
    and not path.is_symlink()
  )


def write(folder: pathlib.Path, content: Mapping[str, Any]) -> None:
  """Writes the manifest of the files in `folder`, and fsyncs all of them.

  Args:
    folder: a checkpoint that no other process reads yet.
    content: JSON values to store beside `files` and `sha256`.

  Raises:
    OSError: something could not be written.
  """
  files = {
    name: {'bytes': size, 'sha256': digest}
    for name, size, digest in _digests(folder, _names(folder))
  }
  text = _encode({**content, 'files': files})
  (folder / NAME).write_bytes(text)
  for path in (folder, *folder.rglob('*')):
    sync(path)


def read(folder: pathlib.Path) -> dict[str, Any]:
  """Reads the manifest of a checkpoint.

  Raises:
    ValueError: it is missing or damaged.
    OSError: it cannot be read at present, and may be undamaged.
  """
  path = folder / NAME
  try:
    if not path.is_file() or path.is_symlink():
      raise ValueError(f'{path} is missing: the checkpoint is incomplete')
    text = path.read_bytes()
    content = json.loads(text)
    digest = content.pop('sha256')
    undamaged = digest == json.loads(_encode(content))['sha256']
    undamaged &= text == _encode(content)
  except OSError as error:
    raise _classify(error) from error
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    undamaged = False
    content = {}
  if not undamaged:
    raise ValueError(f'{path} is damaged')
  return content


def check(folder: pathlib.Path, label: str = '') -> dict[str, Any]:
  """Reads the manifest and checks every file of a checkpoint against it.

  Args:
    folder: of the checkpoint.
    label: its name in the progress bar, which is shown after 5 s.

  Returns:
    The manifest.

  Raises:
    ValueError: a file is damaged, missing or unknown; names it.
    OSError: a file cannot be read at present.
  """
  content = read(folder)
  try:
    expected = content['files']
    if unequal := sorted(set(_names(folder)) ^ expected.keys()):
      name = unequal[0]
      problem = 'is missing' if name in expected else 'is not in the manifest'
      raise ValueError(f'{folder / name} {problem}')
    for name, record in sorted(expected.items()):
      size = (folder / name).stat().st_size
      if size != record['bytes']:
        raise ValueError(
          f'{folder / name} has {size} bytes, expected {record["bytes"]}'
        )
    for name, _, digest in _digests(folder, list(expected), label):
      if digest != expected[name]['sha256']:
        raise ValueError(f'{folder / name} is damaged: its sha256 differs')
  except OSError as error:
    raise _classify(error) from error
  return content


def _encode(content: Mapping[str, Any]) -> bytes:
  """Returns the only valid text of a manifest, so that every bit is checked."""
  body = json.dumps(content, sort_keys=True)
  digest = hashlib.sha256(body.encode()).hexdigest()
  text = json.dumps({**content, 'sha256': digest}, sort_keys=True, indent=1)
  return f'{text}\n'.encode()


def _names(folder: pathlib.Path) -> list[str]:
  """Returns all paths below `folder` that are not folders."""
  return sorted(
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if path != folder / NAME and (path.is_symlink() or not path.is_dir())
  )


def _digests(
  folder: pathlib.Path, names: list[str], label: str = ''
) -> Iterator[tuple[str, int, str]]:
  """Yields name, size and sha256 of files, in any order; a thread per core."""
  paths = {name: folder / name for name in names}
  irregular = [n for n, p in paths.items() if p.is_symlink() or not p.is_file()]
  if irregular:
    raise ValueError(f'{folder / irregular[0]} is not a regular file')
  sizes = {name: path.stat().st_size for name, path in paths.items()}
  bar = tqdm(
    total=sum(sizes.values()),
    desc=f'sha256 {label}'.strip(),
    unit='B',
    unit_scale=True,
    delay=5,
    leave=False,
  )

  def digest(name: str) -> tuple[str, int, str]:
    sha256, size = hashlib.sha256(), 0
    with paths[name].open('rb') as file:
      while chunk := file.read(_CHUNK):
        sha256.update(chunk)
        size += len(chunk)
        bar.update(len(chunk))
    return name, size, sha256.hexdigest()

  cores = len(os.sched_getaffinity(0))
  with bar, ThreadPoolExecutor(cores, 'sha256') as pool:
    # The largest first, so that none is left over for one thread at the end.
    yield from pool.map(digest, sorted(names, key=lambda n: -sizes[n]))


def _classify(error: OSError) -> Exception:
  """Returns a ValueError for a damaged file, else the error itself."""
  if error.errno in _DAMAGE:
    return ValueError(f'{error.filename} cannot be read: {error.strerror}')
  return error
