"""What a checkpoint must hold, to the last bit: its manifest.

`manifest.json` lies beside the files of a checkpoint and is written last. It
has the sha256 of every file, of every array that they hold, and of itself.
Neither jax nor orbax is needed to check the files.
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
# Of a damaged file or folder; other errors may go away, such as a disk that is
# not mounted.
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
  """Writes the manifest of the files in `folder`; all is on disk afterwards.

  Args:
    folder: a checkpoint that nobody else reads yet.
    content: JSON values to keep beside `files` and `sha256`.

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
    OSError: it cannot be read now; that says nothing about it.
  """
  path = folder / NAME
  try:
    if not path.is_file() or path.is_symlink():
      raise ValueError(f'{path} is missing: the checkpoint is not whole')
    text = path.read_bytes()
    content = json.loads(text)
    found = content.pop('sha256')
    whole = found == json.loads(_encode(content))['sha256']
    whole &= text == _encode(content)
  except OSError as error:
    raise _judge(error) from error
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    whole = False
    content = {}
  if not whole:
    raise ValueError(f'{path} is damaged')
  return content


def check(folder: pathlib.Path, label: str = '') -> dict[str, Any]:
  """Reads the manifest and checks every file of a checkpoint against it.

  Args:
    folder: of the checkpoint.
    label: names it beside the progress, which is shown after 5 s.

  Returns:
    The manifest.

  Raises:
    ValueError: a file is damaged, missing or one too many; names it.
    OSError: a file cannot be read now.
  """
  content = read(folder)
  try:
    there, wanted = set(_names(folder)), content['files']
    odd = sorted(there ^ wanted.keys())
    if odd:
      what = 'is missing' if odd[0] in wanted else 'does not belong there'
      raise ValueError(f'{folder / odd[0]} {what}')
    for name, about in sorted(wanted.items()):
      size = (folder / name).stat().st_size
      if size != about['bytes']:
        raise ValueError(
          f'{folder / name} has {size} bytes, expected {about["bytes"]}'
        )
    for name, _, digest in _digests(folder, list(wanted), label):
      if digest != wanted[name]['sha256']:
        raise ValueError(f'{folder / name} is damaged: its sha256 is another')
  except OSError as error:
    raise _judge(error) from error
  return content


def _encode(content: Mapping[str, Any]) -> bytes:
  """The one text of a manifest, so that no bit of it is free."""
  body = json.dumps(content, sort_keys=True)
  digest = hashlib.sha256(body.encode()).hexdigest()
  text = json.dumps({**content, 'sha256': digest}, sort_keys=True, indent=1)
  return f'{text}\n'.encode()


def _names(folder: pathlib.Path) -> list[str]:
  """The files below `folder`; whatever else is not a folder, too."""
  return sorted(
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if path != folder / NAME and (path.is_symlink() or not path.is_dir())
  )


def _digests(
  folder: pathlib.Path, names: list[str], label: str = ''
) -> Iterator[tuple[str, int, str]]:
  """Name, size and sha256 of files, in any order; one thread for each core."""
  paths = {name: folder / name for name in names}
  strange = [n for n, p in paths.items() if p.is_symlink() or not p.is_file()]
  if strange:
    raise ValueError(f'{folder / strange[0]} is not a regular file')
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
    found, size = hashlib.sha256(), 0
    with paths[name].open('rb') as file:
      while chunk := file.read(_CHUNK):
        found.update(chunk)
        size += len(chunk)
        bar.update(len(chunk))
    return name, size, found.hexdigest()

  cores = len(os.sched_getaffinity(0))
  with bar, ThreadPoolExecutor(cores, 'sha256') as pool:
    # The largest first, or the last one to begin decides how long it takes.
    yield from pool.map(digest, sorted(names, key=lambda n: -sizes[n]))


def _judge(error: OSError) -> Exception:
  if error.errno in _DAMAGE:
    return ValueError(f'{error.filename} cannot be read: {error.strerror}')
  return error
