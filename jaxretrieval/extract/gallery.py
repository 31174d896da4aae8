"""Encodes pictures without captions into a gallery, ten or a hundred million.

  python -m jaxretrieval.extract.gallery --images tars/ --licence 'my own' \
    --out galleries/web

`--images` is a folder of tar files, each of which is a shard of the gallery, or
a folder of pictures or one tar file, cut into shards of `--shard_size`. Run
again, it does what is not done: after it was killed, in a SLURM array (`sbatch
--array=0-999`, where each task does its part), as another array, or when tar
files were added. Pictures that cannot be used are in the shards' records.
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


class Done(NamedTuple):
  """What a process did.

  Attributes:
    shards: it encoded.
    images: in them.
    bad: pictures left out of them.
    failed: of each shard that could not be listed or named, why.
  """

  shards: int
  images: int
  bad: int
  failed: list[str]


def encode(
  cut: Sequence[image_shards.Shard],
  encoder: encoders.Encoder,
  folder: pathlib.Path,
  *,
  namespace: str,
  licence: str,
  batch_size: int = 32,
  workers: int = 4,
  process: processes.Process = processes.ALONE,
) -> Done:
  """Encodes the shards of this process that are not done yet.

  Args:
    cut: all shards.
    encoder: of PIL images.
    folder: of the gallery.
    namespace: what image ids count, see `caption_files.read`.
    licence: of the pictures, one line.
    batch_size: pictures encoded at once.
    workers: threads that read and decode pictures.
    process: which of those that share the work this is.

  Raises:
    ValueError: `folder` has a gallery by another encoder.
    OSError: a file cannot be read or written.
  """
  names = [shard.name for shard in cut]
  wanted = image_store.Gallery(encoder.id, namespace, licence, names)
  image_store.start(folder, wanted)
  mine, done = process.share(cut), Done(0, 0, 0, [])
  with (
    concurrent.futures.ThreadPoolExecutor(workers) as pool,
    tqdm(desc='extract', unit=' images') as bar,
  ):
    for number, shard in enumerate(mine, 1):
      bar.set_description(f'shard {number} of {len(mine)}')
      source = image_shards.fingerprint(shard)
      there = image_store.load(folder, shard.name)
      if there and (there.source, there.encoder) == (source, encoder.id):
        continue
      try:
        files = image_shards.list_files(shard)
        number_of = caption_files.numbering(namespace)
        ids = {name: number_of(name) for name in files}
      except ValueError as error:
        # One of ten thousand tar files: the others need not wait for it.
        done.failed.append(str(error))
        continue
      features, reasons = encoding.encode_images(
        encoder, [*files.values()], batch_size, pool, bar
      )
      good = [row for row in range(len(files)) if row not in reasons]
      listed = [*files]
      record = image_store.Record(
        encoder=encoder.id,
        source=source,
        names=[listed[row] for row in good],
        ids=[ids[listed[row]] for row in good],
        bad={listed[row]: why for row, why in reasons.items()},
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
    parser.error('--batch_size, --shard_size and --workers are 1 or more')
  process = processes.chosen(parser, options, os.environ)
  try:
    return _run(options, process)
  except (ImportError, OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2


def _run(options: argparse.Namespace, process: processes.Process) -> int:
  cut = image_shards.cut(options.images, options.shard_size)
  encoder = encoders.image_encoder(
    options.image_encoder,
    pooling=options.image_pooling,
    normalise=options.image_normalise,
    device=options.device,
  )
  done = encode(
    cut,
    encoder,
    options.out,
    namespace=options.namespace or options.out.resolve().name,
    licence=options.licence,
    batch_size=options.batch_size,
    workers=options.workers,
    process=process,
  )
  print(
    f'process {process.index} of {process.count}: {done.shards} shards '
    f'encoded, {len(process.share(cut)) - done.shards - len(done.failed)} were '
    f'there; {done.images} images, {done.bad} bad'
  )
  left = image_store.missing(options.out, [shard.name for shard in cut])
  print(f'{options.out}: {len(cut) - len(left)} of {len(cut)} shards are there')
  for why in done.failed:
    print(f'error: {why}', file=sys.stderr)
  return 2 if done.failed else 0


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m jaxretrieval.extract.gallery',
    description='Encodes pictures without captions into a gallery.',
  )
  add = parser.add_argument
  add(
    '--images',
    type=pathlib.Path,
    required=True,
    help='folder of tar files, folder of pictures, or tar file',
  )
  add('--out', type=pathlib.Path, required=True, help='folder of the gallery')
  add('--licence', required=True, help='of the pictures, one line')
  add('--namespace', help='what image ids count: coco, flickr or your own')
  add('--image_encoder', default='efficientnet-lite2', help='name or folder')
  add('--image_pooling', choices=encoders.IMAGE_POOLING)
  add('--image_normalise', action=argparse.BooleanOptionalAction, default=False)
  add('--device', help='of torch; default: a GPU if there is one')
  add('--batch_size', type=int, default=32)
  add(
    '--shard_size',
    type=int,
    default=10_000,
    help='images in a shard, where they are not in many tar files',
  )
  add('--workers', type=int, default=min(16, os.cpu_count() or 1))
  add('--process_index', type=int, help=processes.INDEX)
  add('--process_count', type=int, help=processes.COUNT)
  return parser


if __name__ == '__main__':
  sys.exit(main())
