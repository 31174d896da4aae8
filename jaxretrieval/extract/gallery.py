"""Command: encodes images without captions into an image store.

  python -m jaxretrieval.extract.gallery --images tars/ --licence 'my own' \
    --out galleries/web

`--images` is a folder of tar files, each of which becomes a shard, or a folder
of images or one tar file, split into shards of `--shard_size`. Every run
encodes the shards that are missing: after a kill, as the tasks of a SLURM array
(`sbatch --array=0-999`) that divide the shards, as another array, or after tar
files were added. The records of the shards list the images that cannot be used.
"""

import argparse
import concurrent.futures
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from tqdm import tqdm

from jaxretrieval.extract import (
  caption_files,
  encoders,
  encoding,
  image_shards,
  processes,
)
from jaxretrieval.index import image_store


class Summary(NamedTuple):
  """Summary of what a process encoded.

  Attributes:
    shards: number of shards.
    images: number of images in them.
    bad: number of images left out of them.
    failed: error message of each shard whose images could not be listed.
  """

  shards: int
  images: int
  bad: int
  failed: list[str]


def encode(
  shards: Sequence[image_shards.ImageShard],
  encoder: encoders.Encoder,
  folder: pathlib.Path,
  *,
  namespace: str,
  licence: str,
  batch_size: int = 32,
  workers: int = 4,
  process: processes.Process = processes.SINGLE,
) -> Summary:
  """Encodes the shards of this process that are missing.

  Args:
    shards: all shards.
    encoder: an image encoder.
    folder: folder of the image store.
    namespace: namespace of the image ids, see `caption_files.read`.
    licence: licence of the images, one line.
    batch_size: images per forward pass.
    workers: threads that read and decode images.
    process: this process among those that share the work.

  Raises:
    ValueError: `folder` is an image store of another encoder.
    OSError: a file cannot be read or written.
  """
  names = [shard.name for shard in shards]
  store = image_store.ImageStore(encoder.id, namespace, licence, names)
  image_store.start(folder, store)
  mine, done = process.share(shards), Summary(0, 0, 0, [])
  with (
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
    tqdm(desc='extract', unit=' images') as bar,
  ):
    for number, shard in enumerate(mine, 1):
      bar.set_description(f'shard {number} of {len(mine)}')
      source = image_shards.fingerprint(shard)
      existing = image_store.load(folder, shard.name)
      if existing and (existing.source, existing.encoder) == (
        source,
        encoder.id,
      ):
        continue
      try:
        files = image_shards.list_files(shard)
        image_id = caption_files.id_function(namespace)
        ids = {name: image_id(name) for name in files}
      except ValueError as error:
        # One damaged tar file must not stop the encoding of the others.
        done.failed.append(str(error))
        continue
      features, reasons = encoding.encode_images(
        encoder, [*files.values()], batch_size, pool, bar
      )
      good = [row for row in range(len(files)) if row not in reasons]
      names = [*files]
      record = image_store.ShardRecord(
        encoder=encoder.id,
        source=source,
        names=[names[row] for row in good],
        ids=[ids[names[row]] for row in good],
        bad={names[row]: reason for row, reason in reasons.items()},
        sha256='',
      )
      image_store.save(folder, shard.name, record, features[good])
      done = done._replace(
        shards=done.shards + 1,
        images=done.images + len(good),
        bad=done.bad + len(reasons),
      )
  return done


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = _parser()
  options = parser.parse_args(arguments)
  if min(options.batch_size, options.shard_size, options.workers) < 1:
    parser.error('--batch_size, --shard_size and --workers must be 1 or more')
  process = processes.from_options(parser, options, os.environ)
  try:
    return _run(options, process)
  except (ImportError, OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2


def _run(options: argparse.Namespace, process: processes.Process) -> int:
  shards = image_shards.cut(options.images, options.shard_size)
  encoder = encoders.image_encoder(
    options.image_encoder,
    pooling=options.image_pooling,
    normalise=options.image_normalise,
    device=options.device,
  )
  done = encode(
    shards,
    encoder,
    options.out,
    namespace=options.namespace or options.out.resolve().name,
    licence=options.licence,
    batch_size=options.batch_size,
    workers=options.workers,
    process=process,
  )
  existing = len(process.share(shards)) - done.shards - len(done.failed)
  print(
    f'process {process.index} of {process.count}: {done.shards} shards '
    f'encoded, {existing} existed; {done.images} images, {done.bad} bad'
  )
  missing = image_store.missing(options.out, [shard.name for shard in shards])
  complete = len(shards) - len(missing)
  print(f'{options.out}: {complete} of {len(shards)} shards are complete')
  for reason in done.failed:
    print(f'error: {reason}', file=sys.stderr)
  return 2 if done.failed else 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m jaxretrieval.extract.gallery',
    description='Encodes images without captions into an image store.',
  )
  add = parser.add_argument
  add(
    '--images',
    type=pathlib.Path,
    required=True,
    help='folder of tar files, folder of images, or tar file',
  )
  add('--out', type=pathlib.Path, required=True, help='folder of the store')
  add('--licence', required=True, help='licence of the images, one line')
  add('--namespace', help='of image ids: coco, flickr or your own')
  add('--image_encoder', default='efficientnet-lite2', help='name or folder')
  add('--image_pooling', choices=encoders.IMAGE_POOLING)
  add('--image_normalise', action=argparse.BooleanOptionalAction, default=False)
  add('--device', help='torch device; default: a GPU if available')
  add('--batch_size', type=int, default=32)
  add(
    '--shard_size',
    type=int,
    default=10_000,
    help='images per shard, unless --images is a folder of tar files',
  )
  add('--workers', type=int, default=min(16, os.cpu_count() or 1))
  add('--process_index', type=int, help=processes.INDEX_HELP)
  add('--process_count', type=int, help=processes.COUNT_HELP)
  return parser


if __name__ == '__main__':
  sys.exit(main())
