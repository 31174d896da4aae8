"""Archives of data sets, fetched from their publishers and checked."""

import pathlib
import urllib.request
import uuid

from tqdm import tqdm

from jaxmix.classification.datasets.archives import readers
from jaxmix.files.atomic import file_fingerprint


def fetch(layout: readers.Layout, folder: pathlib.Path) -> pathlib.Path:
  """Downloads the publisher's archive into `folder`, once.

  Raises:
    ConnectionError: no network, or it broke off.
    ValueError: what arrived does not have the published checksum.
  """
  target = folder / layout.url.rpartition('/')[2]
  if target.exists():
    _check_sum(layout, target)
    return target
  folder.mkdir(parents=True, exist_ok=True)
  # A name of its own until it is whole and checked.
  part = folder / f'.{target.name}.{uuid.uuid4().hex}'
  try:
    _download(layout.url, part)
    _check_sum(layout, part)
    part.rename(target)
  except OSError as error:
    raise ConnectionError(
      f'could not fetch {layout.url}: {error}. Fetch it elsewhere and set '
      f'config.data.source (or {layout.variable}) to it'
    ) from error
  finally:
    part.unlink(missing_ok=True)
  return target


def _download(url: str, path: pathlib.Path):
  with (
    path.open('wb') as out,
    urllib.request.urlopen(url, timeout=60) as stream,
  ):
    size = int(stream.headers.get('Content-Length') or 0) or None
    with tqdm(desc=url, total=size, unit='B', unit_scale=True) as progress:
      while chunk := stream.read(1 << 20):
        out.write(chunk)
        progress.update(len(chunk))


def _check_sum(layout: readers.Layout, path: pathlib.Path):
  kind, _, expected = layout.checksum.partition(':')
  found = file_fingerprint(path, kind)
  if found != expected:
    raise ValueError(
      f'{path} (from {layout.url}) has {kind} {found}, expected {expected}'
    )
