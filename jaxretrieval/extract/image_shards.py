"""Which pictures are encoded together, without looking at all of them.

A folder of tar files is cut as it is: each tar file is a shard, and only the
process that encodes it opens it. A folder of pictures, or a single tar file, is
listed and cut by every process: that is for some millions of pictures at most.
"""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from jaxretrieval.extract import images

TAR = '.tar'


class Shard(NamedTuple):
  """Pictures that are encoded together.

  Attributes:
    name: of its files in a gallery.
    path: where the pictures are: a folder or a tar file.
    files: by the name of the picture; None for all that are in the tar file.
  """

  name: str
  path: pathlib.Path
  files: dict[str, images.File] | None


def cut(source: str | os.PathLike[str], size: int) -> list[Shard]:
  """Cuts a source into shards; they are the same for every process.

  Args:
    source: a folder of tar files, a folder of pictures and of folders of them,
      or one tar file.
    size: pictures in a shard, if they are not in many tar files.

  Raises:
    FileNotFoundError, ValueError: as `images.list_images`; tar files beside
      pictures or folders; no pictures.
  """
  source = pathlib.Path(source).expanduser()
  tars = _tars(source)
  if tars:
    return [Shard(name.removesuffix(TAR), source / name, None) for name in tars]
  listed = sorted(images.list_images(source).items())
  if not listed:
    raise ValueError(f'{source} has no pictures and no tar files')
  return [
    Shard(f'{i:05d}', source, dict(listed[start : start + size]))
    for i, start in enumerate(range(0, len(listed), size))
  ]


def list_files(shard: Shard) -> dict[str, images.File]:
  """The pictures of a shard by name, in the order of the names.

  Those of one tar file among others are named `TAR/NAME`.

  Raises:
    ValueError: the tar file is broken.
  """
  if shard.files is not None:
    return shard.files
  listed = sorted(images.list_images(shard.path).items())
  return {f'{shard.path.name}/{name}': file for name, file in listed}


def fingerprint(shard: Shard) -> str:
  """What a shard was made from: names and sizes, of its pictures or its tar.

  Not their contents: that would be to read them all once more.
  """
  if shard.files is None:
    return f'{shard.path.name}, {shard.path.stat().st_size} bytes'
  sizes = [[name, file.size] for name, file in shard.files.items()]
  return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()


def find(
  source: str | os.PathLike[str], names: Sequence[str]
) -> list[images.File | None]:
  """Finds pictures again by the names that `list_files` or captions have.

  Raises:
    FileNotFoundError, ValueError: as `images.list_images` and `images.match`.
  """
  source = pathlib.Path(source).expanduser()
  if not _tars(source):
    return images.match(names, images.list_images(source))
  listed = functools.cache(images.list_images)
  found = []
  for name in names:
    tar, _, member = name.partition('/')
    # Only tar files that are there, and nothing above the folder.
    fits = tar.endswith(TAR) and (source / tar).is_file()
    found.append(listed(source / tar).get(member) if fits else None)
  return found


def _tars(source: pathlib.Path) -> list[str]:
  """The tar files in a folder; none of another source."""
  if not source.is_dir():
    return []
  tars, others = [], []
  with os.scandir(source) as entries:
    for entry in entries:
      suffix = os.path.splitext(entry.name)[1]
      if suffix == TAR and not entry.name.startswith('.'):
        tars.append(entry.name)
      elif entry.is_dir() or suffix.lower() in images.SUFFIXES:
        others.append(entry.name)
  if tars and others:
    raise ValueError(
      f'{source} has tar files, e.g. {tars[0]}, beside {others[0]}: give a '
      'folder of tar files alone, or of pictures alone'
    )
  return sorted(tars)
