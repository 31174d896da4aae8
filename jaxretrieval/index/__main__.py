"""Command: exports images that can be searched with sentences.

  python -m jaxretrieval.index --run runs/m3l/export --features sets/mine/... \
    --split test --out index

With `--gallery galleries/web` in place of `--split` the images are those of an
image store, and `--features` is any feature set of the encoders that the head
was trained on. See `index_files` for the files.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from jaxretrieval.index.index_files import (
  FAISS,
  RECORD,
  SHARDED,
  read_info,
  write,
)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m jaxretrieval.index',
    description='Exports images that can be searched with sentences.',
  )
  add = parser.add_argument
  add('--run', type=pathlib.Path, required=True, help='folder of a head')
  add(
    '--features',
    type=pathlib.Path,
    required=True,
    help='folder of a feature set',
  )
  images = parser.add_mutually_exclusive_group(required=True)
  images.add_argument('--split', help='split of the feature set')
  images.add_argument(
    '--gallery', type=pathlib.Path, help='folder of an image store'
  )
  add('--out', type=pathlib.Path, required=True, help='folder of the index')
  options = parser.parse_args(arguments)
  try:
    source = options.gallery or options.split
    out = write(options.run, options.features, source, options.out)
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  info = read_info(out / RECORD)
  details = 'with FAISS' if FAISS in info['files'] else 'without FAISS'
  if info['version'] == SHARDED:
    details = f'searched from {len(info["shards"])} shards on disk'
  print(f'{out}: {info["images"]} images, {details}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
