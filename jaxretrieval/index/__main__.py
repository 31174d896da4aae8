"""Exports a gallery that can be searched with sentences."""

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
    description='Exports a gallery that can be searched with sentences.',
  )
  add = parser.add_argument
  add('--run', type=pathlib.Path, required=True, help='an exported head')
  add('--features', type=pathlib.Path, required=True, help='a feature set')
  either = parser.add_mutually_exclusive_group(required=True)
  either.add_argument('--split', help='of the feature set')
  either.add_argument('--gallery', type=pathlib.Path, help='or its images')
  add('--out', type=pathlib.Path, required=True, help='the folder to write')
  options = parser.parse_args(arguments)
  try:
    images = options.gallery or options.split
    out = write(options.run, options.features, images, options.out)
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  info = read_info(out / RECORD)
  exact = 'with FAISS' if FAISS in info['files'] else 'without FAISS'
  if info['version'] == SHARDED:
    exact = f'searched from {len(info["shards"])} shards on disk'
  print(f'{out}: {info["images"]} images, {exact}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
