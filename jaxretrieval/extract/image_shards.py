"""Image shards: the images of a source, split without reading all of them.

Each tar file in a folder of tar files is a shard, and only the process that
encodes it opens it. A folder of images, or a single tar file, is listed and
split by every process, which is practical for a few million images.
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


class ImageShard(NamedTuple):
  """Images that are encoded together.

  Attributes:
    name: name of its files in an image store.
    path: folder or tar file of the images.
    files: files by image name; None for all images in the tar file.
  """

  name: str
  path: pathlib.Path
  files: dict[str, images.File] | None


def cut(source: str | os.PathLike[str], size: int) -> list[ImageShard]:
  """Splits a source into shards, the same in every process.

  Args:
    source: a folder of tar files, a folder of images (searched recursively), or
      one tar file.
    size: images per shard, unless `source` is a folder of tar files.

  Raises:
    FileNotFoundError, ValueError: see `images.list_images`; or `source` has no
      images, or tar files beside images or folders.
  """
  source = pathlib.Path(source).expanduser()
  tars = _tars(source)
  if tars:
    return [
      ImageShard(name.removesuffix(TAR), source / name, None) for name in tars
    ]
  listed = sorted(images.list_images(source).items())
  if not listed:
    raise ValueError(f'{source} contains neither images nor tar files')
  return [
    ImageShard(f'{i:05d}', source, dict(listed[start : start + size]))
    for i, start in enumerate(range(0, len(listed), size))
  ]


def list_files(shard: ImageShard) -> dict[str, images.File]:
  """Returns the files of a shard by image name, sorted.

  Images in a folder of tar files are named `TAR/NAME`.

  Raises:
    ValueError: the tar file is damaged.
  """
  if shard.files is not None:
    return shard.files
  listed = sorted(images.list_images(shard.path).items())
  return {f'{shard.path.name}/{name}': file for name, file in listed}


def fingerprint(shard: ImageShard) -> str:
  """Returns a fingerprint of the names and sizes of a shard's files.

  Contents are not hashed, because that would read all images twice.
  """
  if shard.files is None:
    return f'{shard.path.name}, {shard.path.stat().st_size} bytes'
  sizes = [[name, file.size] for name, file in shard.files.items()]
  return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()


def find(
  source: str | os.PathLike[str], names: Sequence[str]
) -> list[images.File | None]:
  """Returns the files of images by their names; None for a missing one.

  Args:
    source: see `cut`.
    names: names as in `list_files`, or as in captions.

  Raises:
    FileNotFoundError, ValueError: see `images.list_images` and `images.match`.
  """
  source = pathlib.Path(source).expanduser()
  if not _tars(source):
    return images.match(names, images.list_images(source))
  listed = functools.cache(images.list_images)
  files = []
  for name in names:
    tar, _, member = name.partition('/')
    # `tar` has no /, so that it cannot lead out of the folder.
    exists = tar.endswith(TAR) and (source / tar).is_file()
    files.append(listed(source / tar).get(member) if exists else None)
  return files


def _tars(source: pathlib.Path) -> list[str]:
  """Returns the tar files in a folder; empty if `source` is not one."""
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
      f'{source} contains the tar file {tars[0]} beside {others[0]}: give a '
      'folder with only tar files or only images'
    )
  return sorted(tars)
